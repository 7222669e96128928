"""The integer arithmetic of `smpc.noise.exponential` in plain Python: everything that may come out, mask by mask."""

import itertools
from fractions import Fraction

import numpy as np

DIGIT, LIMB = 6, 4


def weights(law, below, mask):
    """All integers that may stand for the weight of a candidate so far below the best, if this mask was opened."""
    if below > law.cut:
        return {law.weight_at_cut}
    n, side = law.n_digits, 1 << DIGIT
    opened = ((below << law.stretch) + mask) % side**n
    differences = [(opened // side**p) % side - (mask // side**p) % side for p in range(n)]
    factors = [{law.tables[p][differences[p] + side - 1]} for p in range(n - 1)]
    factors.append({law.tables[-1][differences[-1] % side]})
    while len(factors) > 1:
        rest = len(factors) % 2
        products = [
            {(x * y >> law.factor_bits) + up for x, y in itertools.product(low, high) for up in (0, 1)}
            for low, high in zip(factors[rest::2], factors[rest + 1 :: 2], strict=True)
        ]
        factors = factors[:rest] + products
    return {value * law.powers[differences[-1] % side] for value in factors[0]}


def point(law, total, r, ups):
    """16 r T / 2^k as it comes out where the parts of it are cut up or down: `ups`, one for each limb but the last."""
    limbs = [(r >> LIMB * place) & (2**LIMB - 1) for place in range(law.n_limbs)]
    top = law.n_limbs - 1
    return limbs[top] * total + sum(
        (limb * total >> LIMB * (top - place)) + up
        for place, (limb, up) in enumerate(zip(limbs[:top], ups, strict=True))
    )


def probabilities(law, values, ups):
    """The exact law of the index over all r, given the weights and how the parts of the point are cut."""
    n = 2 ** (LIMB * law.n_limbs)
    u = point(law, sum(values), np.arange(n), ups)
    # The first candidate whose sum of weights, in sixteenths, is beyond u; else the last.
    index = np.searchsorted(np.cumsum(values[:-1]) << LIMB, u, side="right")
    return [Fraction(int(count), n) for count in np.bincount(index, minlength=len(values))]
