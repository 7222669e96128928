"""Products of several shared bits in one round, and the two trees that are built from them.

Every bit is masked by a bit of its own and opened; shares of the products of masks, from the dealer, do the rest (see
`smpc.kinds.Conjunctions`). A node that joins four neighbours instead of two halves the rounds of a tree.

Source: the idea of opening masked inputs and dealing products of masks for gates of many inputs is that of Ohata and
Nuida 2020, arXiv:1907.01661, and ABY2.0 (Patra et al. 2021, eprint 2020/1225); the tree that joins digits is a parallel
prefix comparison.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from smpc._rounds import Layout
from smpc.binary import BITS
from smpc.kinds import Conjunctions, all_of, node
from smpc.ring import Words

if TYPE_CHECKING:
    from smpc._rounds import Rounds

Indices = npt.NDArray[np.intp]

RADIX = 4


class _Plan:
    """How the monomials of a kind are put together from opened bits D and shared masks A, row by row.

    Row 0 is the empty product, rows 1..v the single bits, then the kind's subsets: the same for D and for A.
    """

    def __init__(self, kind: Conjunctions) -> None:
        family = [(), *((j,) for j in range(kind.n_variables)), *kind.subsets]
        index = {subset: i for i, subset in enumerate(family)}
        self.n_rows = len(family)
        # Products of D, one variable after the other: those whose last variable is j follow from those without it.
        self.steps: list[tuple[int, Indices, Indices]] = []
        for j in range(kind.n_variables):
            rows = [i for i, subset in enumerate(family) if len(subset) > 1 and subset[-1] == j]
            if rows:
                parents = [index[family[i][:-1]] for i in rows]
                self.steps.append((1 + j, np.array(rows), np.array(parents)))
        self.monomials: list[tuple[Indices, Indices]] = []
        for monomial in kind.monomials:
            inside = [subset for subset in family if set(subset) <= set(monomial)]
            outside = [tuple(j for j in monomial if j not in subset) for subset in inside]
            self.monomials.append(
                (np.array([index[subset] for subset in outside]), np.array([index[subset] for subset in inside]))
            )


@lru_cache
def _plan(kind: Conjunctions) -> _Plan:
    return _Plan(kind)


async def conjunctions(session: Rounds, kind: Conjunctions, x: Words) -> Words:
    """Return shares of the kind's monomials. One round.

    Parameters
    ----------
    x
        Shares of the variables, shape (v, n): 64 instances in each of n words.

    Returns
    -------
    Shape (monomials, n).
    """
    n_variables, n = x.shape
    masks, products = session.take(kind, n)
    layout = Layout([(BITS, x.shape)])
    buffer = layout.buffer()
    np.bitwise_xor(x, masks, out=layout.views(buffer)[0])
    (opened,) = await session.reveal("and", layout, buffer)

    plan = _plan(kind)
    d = np.empty((plan.n_rows, n), dtype=np.uint64)
    d[0] = np.uint64(2**64 - 1)
    d[1 : 1 + n_variables] = opened
    for variable, rows, parents in plan.steps:
        d[rows] = d[parents] & d[variable]
    a = np.empty_like(d)
    # The product of all opened bits is public: party 0 alone adds it.
    a[0] = np.uint64(2**64 - 1 if session.party == 0 else 0)
    a[1 : 1 + n_variables] = masks
    a[1 + n_variables :] = products
    out = np.empty((len(plan.monomials), n), dtype=np.uint64)
    for i, (outside, inside) in enumerate(plan.monomials):
        np.bitwise_xor.reduce(d[outside] & a[inside], axis=0, out=out[i])
    return out


async def greater_tree(session: Rounds, greater: Words, equal: Words) -> Words:
    """Return shares of whether the number is greater, from its digits. ceil(log4(digits)) rounds.

    Parameters
    ----------
    greater, equal
        Shares of whether digit i is greater, or equal; shape (digits, n), highest first.

    Returns
    -------
    Shape (n,).
    """
    while len(greater) > 1:
        n_digits, n = greater.shape
        last = n_digits <= RADIX
        radix = n_digits if last else RADIX
        n_nodes = n_digits // radix
        # What does not fill a node waits for the next level, below the nodes.
        whole = n_nodes * radix
        kind = node(radix, whole=not last)
        n_equal = radix if not last else radix - 1
        g = greater[:whole].reshape(n_nodes, radix, n)
        e = equal[:whole].reshape(n_nodes, radix, n)
        variables = np.concatenate([e[:, :n_equal], g[:, 1:]], axis=1).transpose(1, 0, 2)
        products = await conjunctions(session, kind, variables.reshape(kind.n_variables, n_nodes * n))
        products = products.reshape(len(kind.monomials), n_nodes, n)
        joined = g[:, 0] ^ np.bitwise_xor.reduce(products[: radix - 1], axis=0)
        if last:
            return np.asarray(joined[0])
        greater = np.concatenate([joined, greater[whole:]])
        equal = np.concatenate([products[radix - 1], equal[whole:]])
    return np.asarray(greater[0])


async def all_tree(session: Rounds, bits: Words) -> Words:
    """Return shares of the product of all rows. ceil(log4(rows)) rounds.

    Parameters
    ----------
    bits
        Shape (rows, n).
    """
    while len(bits) > 1:
        rows, n = bits.shape
        radix = min(rows, RADIX)
        n_nodes = rows // radix
        whole = n_nodes * radix
        variables = bits[:whole].reshape(n_nodes, radix, n).transpose(1, 0, 2).reshape(radix, n_nodes * n)
        joined = (await conjunctions(session, all_of(radix), variables)).reshape(n_nodes, n)
        bits = np.concatenate([joined, bits[whole:]])
    return np.asarray(bits[0])
