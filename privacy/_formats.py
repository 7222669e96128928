"""How numbers and untrusted words are written in a report: one way for each kind of quantity.

A bound is rounded to its safe side: what was spent upwards, what is left downwards.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from markupsafe import Markup

NO_VALUE = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_SUPERSCRIPT = str.maketrans("-0123456789", "\N{SUPERSCRIPT MINUS}⁰¹²³⁴⁵⁶⁷⁸⁹")
# Control characters break a document; direction overrides make a label read as another one.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff\ud800-\udfff]")
# Forgives the last bits of a double, so that 3.0000000001 is not written as 3.01.
_SLACK = 1e-7


def clean(value: object) -> object:
    r"""Return a string without control and direction characters; anything else, and finished markup, as it is.

    Examples
    --------
    >>> clean("a\x00b") == "a\N{REPLACEMENT CHARACTER}b"
    True
    """
    if isinstance(value, str) and not isinstance(value, Markup):
        return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", value)
    return value


def shorten(text: str, length: int) -> str:
    """Return at most `length` characters, the cut marked.

    Examples
    --------
    >>> shorten("white cell count", 8)
    'white c…'
    """
    return text if len(text) <= length else text[: max(length - 1, 1)].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def count(value: int | None) -> str:
    """Write a whole number.

    Examples
    --------
    >>> count(12480), count(None)
    ('12,480', '–')
    """
    return NO_VALUE if value is None else f"{value:,}".replace("-", _MINUS)


def decimal(value: float | None, digits: int = 2) -> str:
    """Write a number with a fixed number of decimals, rounded to nearest.

    Examples
    --------
    >>> decimal(-0.126), decimal(2.0, 1)
    ('−0.13', '2.0')
    """
    return _say(value, lambda number: f"{number:,.{digits}f}".replace("-", _MINUS))


def bound_above(value: float | None, digits: int = 2) -> str:
    """Write an upper bound: never less than the value.

    Examples
    --------
    >>> bound_above(2.991), bound_above(3.0000000001)
    ('3.00', '3.00')
    """
    return _say(value, lambda number: decimal(math.ceil(number * 10.0**digits - _SLACK) / 10.0**digits, digits))


def bound_below(value: float | None, digits: int = 2) -> str:
    """Write a lower bound: never more than the value.

    Examples
    --------
    >>> bound_below(0.4199)
    '0.41'
    """
    return _say(value, lambda number: decimal(math.floor(number * 10.0**digits + _SLACK) / 10.0**digits, digits))


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share of one as a percentage.

    Examples
    --------
    >>> percent(0.1234), percent(-0.02)
    ('12.3 %', '−2.0 %')
    """
    return _say(share, lambda number: f"{decimal(100 * number, digits)} %")


def power_of_ten(value: float) -> str:
    """Write a small number such as delta.

    Examples
    --------
    >>> power_of_ten(1e-6), power_of_ten(2.5e-9), power_of_ten(0.0)
    ('10⁻⁶', '2.5 × 10⁻⁹', '0')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    exponent = math.floor(math.log10(value) + 1e-12)
    mantissa = f"{value / 10**exponent:.3g}"
    power = "10" + str(exponent).translate(_SUPERSCRIPT)
    return power if mantissa == "1" else f"{mantissa} × {power}"


def one_in(probability: float) -> str:
    """Write a small probability as odds that people know from daily life.

    Examples
    --------
    >>> one_in(1e-6), one_in(0.0)
    ('1 in 1,000,000', 'never')
    """
    return "never" if probability <= 0 else f"1 in {math.floor(1 / probability + _SLACK):,}"


def data_size(n_bytes: int) -> str:
    """Write a number of bytes.

    Examples
    --------
    >>> data_size(812), data_size(45_300), data_size(12_345_678)
    ('812 B', '45 kB', '12.3 MB')
    """
    if n_bytes < 1000:
        return f"{n_bytes} B"
    if n_bytes < 1_000_000:
        return f"{n_bytes / 1000:.0f} kB"
    return f"{n_bytes / 1e6:,.1f} MB"


def p_value(value: float) -> str:
    """Write a p value.

    Examples
    --------
    >>> p_value(0.0421), p_value(1e-9)
    ('0.042', '< 0.001')
    """
    return "< 0.001" if value < 0.001 else decimal(value, 3)


def ratio(value: float) -> str:
    """Write an odds ratio with three significant digits, three decimals near 1, within the range that means something.

    Examples
    --------
    >>> ratio(1.0041), ratio(2.134), ratio(0.4), ratio(1e5), ratio(1e-7)
    ('1.004', '2.13', '0.400', '> 1,000', '< 0.001')
    """
    if value > 1000:
        return "> 1,000"
    if value < 0.001:
        return "< 0.001"
    return decimal(value, 3 if 0.9 <= value < 1.1 else max(0, 2 - math.floor(math.log10(value))))


def listing(names: tuple[str, ...], *, at_most: int = 8) -> str:
    """Write names as a sentence does.

    Examples
    --------
    >>> listing(("alder", "birch", "cedar")), listing(("a", "b", "c", "d"), at_most=2)
    ('alder, birch and cedar', 'a, b and 2 more')
    """
    if len(names) > at_most:
        return f"{', '.join(names[:at_most])} and {len(names) - at_most:,} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _say(value: float | None, write: Callable[[float], str]) -> str:
    """Write a finite number as told, and anything else as a sign."""
    if value is None or math.isnan(value):
        return NO_VALUE
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    return write(value)
