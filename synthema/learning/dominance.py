"""The dominance rule: no patient may make up most of a sum that is opened. Decided on shares, for sums of numbers.

c_i    what patient i adds to a sum, in fixed point
S      sum of |c_i| over all patients of all sites; the sum itself may be near zero, as a score is at its root
a_s    largest |c_i| at site s

A sum is dominated if some site has a_s > 0.9 S: whoever knows such a sum knows that patient's value to a tenth, and who
knows the other patients knows it better still. What is learnt is one yes or no for all sums together, never which.

Counts need no such test: a patient adds 1 to a count, and a count that is opened is 0 or at least 3.

A site states its own S and a (`glm_sums`), S rounded down and a up, so that rounding never hides that a patient
dominates. One that lies about them weakens the rule, as one that invents patients would; what
protects against sites that lie is noise, and a model has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from smpc import FIELD61, Session, Shared, small_cells
from smpc.shared import concatenate

LARGEST_PART = 0.9
RULE = f"one patient would make up more than {LARGEST_PART:g} of a sum"
_PART = Fraction(LARGEST_PART).limit_denominator(1000)


async def any_dominated(session: Session, totals: Sequence[Shared], largest: Sequence[Shared]) -> bool:
    """Return whether in any of the sums one patient dominates; opens that and nothing else.

    Parameters
    ----------
    totals, largest
        S and a of every site: shares in RING64, shape (P,), of numbers below 2^44.

    Examples
    --------
    >>> from smpc import run_local
    >>> async def protocol(s, x):
    ...     a = await s.input(x)
    ...     return await any_dominated(s, [a[0][:1], a[1][:1]], [a[0][1:], a[1][1:]])
    >>> [run_local(protocol, inputs=[[first, first], [9, 1]]).results[0] for first in (81, 82)]
    [False, True]
    """
    pooled = totals[0]
    for total in totals[1:]:
        pooled = pooled + total
    # Negative where a patient of that site dominates: all sites and sums in one comparison.
    slack = concatenate(*(_PART.numerator * pooled - _PART.denominator * each for each in largest))
    dominated = await session.to_numbers(await session.negative_bits(slack), FIELD61)
    # How many there are is tested for zero: the product of the number and a random mask is opened, and no more.
    none = await small_cells(session, dominated.sum() + 1, threshold=2)
    return not bool(none)
