"""Amounts of privacy loss in the journal: whole units, written as decimals of a fixed number of digits.

Units are those of `privacy._units`: 10^-18 of rho, epsilon or a divergence, 10^-36 of delta. Costs are rounded up to
whole units and caps down, so that nothing drifts, vanishes or compares wrongly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from privacy._units import FAILURE, LOSS, float_down, round_up
from privacy.events import ZeroConcentratedDP
from privacy.zcdp import rho_of

_DIGITS = {LOSS: 18, FAILURE: 36}
_TEXT = {
    unit: re.compile(rf"(0|[1-9][0-9]{{0,999}})\.([0-9]{{{digits}}})", re.ASCII) for unit, digits in _DIGITS.items()
}


def text_of_units(units: int, unit: int = LOSS) -> str:
    """Return the journal's text of an amount.

    Examples
    --------
    >>> text_of_units(1_250_000_000_000_000)
    '0.001250000000000000'
    """
    whole, part = divmod(units, unit)
    return f"{whole}.{part:0{_DIGITS[unit]}d}"


@lru_cache(maxsize=4096)
def units_of_text(text: object, unit: int = LOSS) -> int:
    """Return the units that `text_of_units` wrote. Raises ValueError on any other text."""
    match = _TEXT[unit].fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"an amount must be a decimal text with {_DIGITS[unit]} digits after the point")
    return int(match[1]) * unit + int(match[2])


def texts_of(amounts: Sequence[int], units: Sequence[int]) -> list[str]:
    """Return the journal's texts of several amounts."""
    return [text_of_units(amount, unit) for amount, unit in zip(amounts, units, strict=True)]


def amounts_of(texts: object, units: Sequence[int]) -> tuple[int, ...]:
    """Return the amounts that `texts_of` wrote. Raises ValueError on anything else."""
    if not isinstance(texts, list) or len(texts) != len(units):
        raise ValueError(f"a list of {len(units)} amounts is needed")
    return tuple([units_of_text(text, unit) for text, unit in zip(texts, units, strict=True)])


def largest_rho(units: int) -> float:
    """Return the largest rho, down to a relative 3e-12, that an event may state and still fit into `units`.

    `rho_of` adds a guard to what an event states; what is reported as left must pass when it is asked for.

    Examples
    --------
    >>> round_up(rho_of(ZeroConcentratedDP(largest_rho(10**17))), LOSS) <= 10**17
    True
    """
    value = float_down(max(units, 0), LOSS) * (1 - 2e-12)
    while value > 0 and round_up(rho_of(ZeroConcentratedDP(value)), LOSS) > units:
        value *= 1 - 1e-12
    return value
