"""Checks of arguments that callers without a type checker get wrong."""

from __future__ import annotations

import math

import numpy as np


def is_whole(value: object, *, least: int, most: int | None = None) -> bool:
    """Return whether a value is a whole number within the limits; True and False are not numbers."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        return False
    return int(value) >= least and (most is None or int(value) <= most)


def check_number(
    name: str, value: object, *, above: float, below: float = math.inf, most: float = math.inf, hint: str
) -> None:
    """Raise ValueError unless a value is a finite number with above < value < below and value <= most."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float | np.integer | np.floating)
        or not math.isfinite(value)
        or not (above < value < below and value <= most)
    ):
        limits = [f"> {above:g}"] + [f"< {below:g}"] * (below < math.inf) + [f"<= {most:g}"] * (most < math.inf)
        raise ValueError(f"{name} must be a number {' and '.join(limits)} ({hint}), got {value!r}")


def check_attribute(attribute: object) -> None:
    """Raise ValueError unless this names one column, or a tuple of at least two different ones."""
    names = attribute if isinstance(attribute, tuple) else (attribute,)
    if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise ValueError(f"attribute must name a column, or a tuple of different columns, got {attribute!r}")
    if isinstance(attribute, tuple) and len(attribute) < 2:
        raise ValueError(
            f"attribute: a tuple takes several columns together; write one column as text, got {attribute!r}"
        )


def check_suppression_limit(limit: object) -> None:
    """Raise ValueError if a suppression limit is no share; True is not one."""
    if isinstance(limit, bool) or not isinstance(limit, int | float | np.number) or not 0.0 <= float(limit) <= 1.0:
        raise ValueError(f"suppression_limit must be in [0, 1], got {limit!r}")
