"""Which material, and how much: a plan, as a forecast makes it and a dealer reads it.

A kind is written as its class and its parameters:

    {"kind": "MatrixProduct", "domain": "RING64", "m": 3, "k": 4, "n": 5, "count": 2}

Kinds are the classes of `smpc.kinds` and `smpc.pieces`; what a plan names is built by their constructors and nothing
else. What is read is written again and compared, so that one kind has one description.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np

from smpc.errors import PackageRefused
from smpc.material import Kind
from smpc.ring import DOMAINS, Domain

FORMAT = "synthema-plan-1"

MOST_KINDS = 4096
MOST_ITEMS = 2**48
# An item of more is a typing error, and would be one allocation.
MOST_ITEM_BYTES = 2**34
# Each row is a stream with a cipher of its own.
MOST_ROWS = 2**16
_MOST_PARAMETER = 2**24
_MOST_TOGETHER = 12


@cache
def _classes() -> dict[str, type[Kind]]:
    # Imported here: protocols stand above the stores that keep their material.
    from smpc import kinds, pieces

    found = (each for module in (kinds, pieces) for each in vars(module).values())
    return {
        each.__name__: each for each in found if isinstance(each, type) and issubclass(each, Kind) and each is not Kind
    }


def describe(kind: Kind) -> dict[str, Any]:
    """Return the JSON description of a kind.

    Raises
    ------
    ValueError
        If it is none of this package.

    Examples
    --------
    >>> from smpc.kinds import Product
    >>> from smpc.ring import RING64
    >>> describe(Product(RING64))
    {'kind': 'Product', 'domain': 'RING64'}
    """
    name = type(kind).__name__
    if _classes().get(name) is not type(kind):
        raise ValueError(f"{name} is no kind of this package, so it cannot be written down")
    values = {each.name: _plain(getattr(kind, each.name)) for each in fields(kind)}  # type: ignore[arg-type]
    return {"kind": name, **values}


def kind_of(description: Mapping[str, Any]) -> Kind:
    """Return the kind that a description stands for.

    Raises
    ------
    PackageRefused
        If there is no such kind, or a parameter is missing, unknown or out of range.

    Examples
    --------
    >>> kind_of({"kind": "Digits", "width": 16})
    Digits(width=16)
    """
    parameters = dict(description)
    name = parameters.pop("kind", None)
    found = _classes().get(name) if isinstance(name, str) else None
    if found is None:
        raise PackageRefused(f"there is no kind of material {name!r}")
    try:
        kind = found(**{key: _value(value) for key, value in parameters.items()})
        fits = (
            describe(kind) == dict(description)
            and 0 < kind.n_bytes(1) <= MOST_ITEM_BYTES
            and kind.n_rows <= MOST_ROWS
            and _is_computable(kind)
        )
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
        fits = False
    if not fits:
        raise PackageRefused(f"{name} is described with parameters that it does not have")
    return kind


def _is_computable(kind: Kind) -> bool:
    """Return whether the arithmetic takes the parameters, tried with no item at all."""
    tied = kind.tie([np.empty(field.shape(0), dtype=field.domain.dtype) for field in kind.free], 0)
    return [each.shape for each in tied] == [field.shape(0) for field in kind.tied]


def _plain(value: Any) -> Any:
    if isinstance(value, Domain):
        return value.name
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return DOMAINS[value]
    if isinstance(value, list):
        # Conjunctions have a field for every subset of a monomial.
        if len(value) > (_MOST_TOGETHER if all(isinstance(item, int) for item in value) else MOST_KINDS):
            raise ValueError
        if sum(1 << len(item) for item in value if isinstance(item, list) and len(item) <= _MOST_TOGETHER) > MOST_ROWS:
            raise ValueError
        return tuple(_value(item) for item in value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST_PARAMETER:
        raise ValueError
    return value


def describe_amounts(amounts: Mapping[Kind, int]) -> list[dict[str, Any]]:
    """Return the description of amounts, in their order; kinds of which there is nothing are left out."""
    return [{**describe(kind), "count": count} for kind, count in amounts.items() if count]


def amounts_of(items: object) -> dict[Kind, int]:
    """Return the amounts that a description stands for.

    Raises
    ------
    PackageRefused
        If it is not what `describe_amounts` writes.
    """
    if not isinstance(items, list) or len(items) > MOST_KINDS:
        raise PackageRefused(f"a plan lists up to {MOST_KINDS} kinds of material")
    amounts: dict[Kind, int] = {}
    for item in items:
        if not isinstance(item, dict):
            raise PackageRefused("an entry of a plan names a kind, its parameters and a count")
        description = dict(item)
        count = description.pop("count", None)
        if isinstance(count, bool) or not isinstance(count, int) or not 0 < count <= MOST_ITEMS:
            raise PackageRefused(f"a count is an integer in 1..{MOST_ITEMS}")
        kind = kind_of(description)
        if kind in amounts:
            raise PackageRefused(f"a kind is listed twice: {kind.label!r}")
        amounts[kind] = count
    return amounts


def plan_text(amounts: Mapping[Kind, int], n_parties: int) -> str:
    """Return a plan as JSON text.

    Examples
    --------
    >>> from smpc.kinds import Digits
    >>> read_plan(plan_text({Digits(64): 10}, 3))
    ({Digits(width=64): 10}, 3)
    """
    body = {"format": FORMAT, "n_parties": n_parties, "material": describe_amounts(amounts)}
    return json.dumps(body, indent=2) + "\n"


def read_plan(text: str | bytes) -> tuple[dict[Kind, int], int]:
    """Return the amounts and the number of parties of a plan.

    Raises
    ------
    PackageRefused
        If it is not what `plan_text` writes.
    """
    body = read_json(text)
    if not isinstance(body, dict) or body.keys() != {"format", "n_parties", "material"} or body["format"] != FORMAT:
        raise PackageRefused(f"a plan has the entries format ({FORMAT!r}), n_parties and material, and no others")
    n_parties = body["n_parties"]
    if isinstance(n_parties, bool) or not isinstance(n_parties, int):
        raise PackageRefused("n_parties is an integer")
    return amounts_of(body["material"]), n_parties


def read_json(text: str | bytes) -> Any:
    """Return what JSON text stands for; a name that is given twice, NaN and nesting without end are refused."""

    def once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        entries = list(pairs)
        found = dict(entries)
        if len(found) != len(entries):
            raise ValueError
        return found

    def refuse(_: str) -> float:
        raise ValueError

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise PackageRefused("it is not JSON, or an entry is given twice") from None


def added(*plans: Mapping[Kind, int]) -> dict[Kind, int]:
    """Return the sum of several amounts.

    Examples
    --------
    >>> from smpc.kinds import Digits
    >>> added({Digits(8): 1}, {Digits(8): 2, Digits(16): 5})
    {Digits(width=8): 3, Digits(width=16): 5}
    """
    total: dict[Kind, int] = {}
    for plan in plans:
        for kind, count in plan.items():
            total[kind] = total.get(kind, 0) + count
    return total
