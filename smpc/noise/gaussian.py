"""Discrete Gaussian noise that no party knows, at the accuracy of a single trusted party: a table looked up on shares.

A shared uniform number U of k bits is compared with all R thresholds of a public table at once. The answers are ones up
to the sample's magnitude and zeros behind it, so its binary digits are sums over GF(2) of a few of them, which costs
nothing; a shared fair coin gives the sign. Law and price: `smpc.noise.gaussian_table`.

Where it pays: noise by shares (`smpc.noise.shares`) is local, but has n / (n - t) times the variance that is paid for.
This has the variance that is paid for, for k + R c bits opened a sample (c = 34 for k = 128) and five rounds: with
R about 9 s, half a kilobyte a sample from each party at scale s = 12. Large noise on many numbers is cheaper by shares.
"""

from __future__ import annotations

import numpy as np

from privacy import Composed
from privacy._checks import check_count
from smpc.conversion import gated
from smpc.noise.coins import WIDE_DIGIT, below_all, random_words, tree_cost, weighted
from smpc.noise.gaussian_table import GaussianTable
from smpc.ring import RING64, Words
from smpc.session import Session
from smpc.shared import Shared

# Samples at a time: the comparisons of one batch are held in memory together.
_BATCH_COMPARISONS = 1 << 22


def sample_cost(table: GaussianTable) -> tuple[int, int]:
    """Return what samples cost: rounds for any number of them up to a batch, and bits that each party opens a sample.

    Bits are packed 64 to a word; the last word of a row of samples may be part empty.

    Examples
    --------
    >>> from smpc.noise.gaussian_table import gaussian_table
    >>> sample_cost(gaussian_table(2.0))
    (5, 810)
    """
    rounds, bits = tree_cost(table.n_bits, WIDE_DIGIT)
    digits = table.largest.bit_length()
    # Digits of U, the tree, digits of the magnitude to numbers; the sign, and 64 bits of the number that it gates.
    return rounds + 3, table.n_bits + table.largest * bits + digits + 1 + 64


async def joint_table_gaussian(
    session: Session, x: Shared, table: GaussianTable, *, l2_sensitivity_squared: int
) -> tuple[Shared, Composed]:
    """Return x plus discrete Gaussian noise by table, still shared, and the event of opening it.

    The event depends on public arguments only: charge `table.event(l2_sensitivity_squared=..., dimension=x.size)`
    first. Rounds and bytes: `sample_cost`.

    Parameters
    ----------
    x
        Integers in RING64, any shape; each gets noise of its own.
    l2_sensitivity_squared
        Of x as a whole, in units of 2^-frac_bits; the most that one integer changes is the table's.

    Raises
    ------
    RangeExceeded
        If x has a declared range and the domain does not hold it with noise.

    Examples
    --------
    >>> from smpc import run_local
    >>> from smpc.noise import gaussian_table
    >>> async def protocol(s, x):
    ...     a = await s.input(x)
    ...     noisy, event = await joint_table_gaussian(s, a[0] + a[1], gaussian_table(2.0), l2_sensitivity_squared=1)
    ...     return await s.open(noisy)
    >>> bool(abs(run_local(protocol, inputs=[[100], [200]]).results[0][0] - 300) < 30)
    True
    """
    if x.domain is not RING64:
        raise ValueError(f"noise by table is for numbers in RING64, got {x.domain}")
    event = table.event(l2_sensitivity_squared=l2_sensitivity_squared, dimension=max(x.size, 1))
    words = await table_words(session, table, x.size)
    return x + session.shared(words.reshape(x.shape), bound=table.largest, frac_bits=x.frac_bits), event


async def table_words(session: Session, table: GaussianTable, length: int) -> Words:
    """Return shares of independent samples of the table's law, shape (length,)."""
    check_count("length", length, least=0)
    batch = max(64, _BATCH_COMPARISONS // table.largest)
    parts = [await _batch(session, table, min(batch, length - start)) for start in range(0, length, batch)]
    return np.concatenate([np.zeros(0, dtype=np.uint64), *parts])


async def _batch(session: Session, table: GaussianTable, length: int) -> Words:
    n_words = -(-length // 64)
    at_least = await below_all(session, random_words(session, table.n_bits, n_words), table.thresholds)
    # Row m - 1 is one iff the magnitude is at least m. Digit j of it is odd iff an odd number of 2^j, 2 2^j, ... fit.
    digits = np.stack(
        [np.bitwise_xor.reduce(at_least[(1 << j) - 1 :: 1 << j], axis=0) for j in range(table.largest.bit_length())]
    )
    magnitude = await weighted(session, digits, length, RING64)
    negative = await gated(session, random_words(session, n_words), magnitude)
    return np.asarray(magnitude - np.uint64(2) * negative)
