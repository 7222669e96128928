"""The integer arithmetic of `smpc.noise.exponential` in plain Python: everything that may come out, mask by mask."""

import itertools

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


def parts(law, total, r):
    """The parts of 16 r T / 2^k but the highest, lowest first: what is cut, and by how many bits; and the highest."""
    limbs = [(r >> LIMB * place) & (2**LIMB - 1) for place in range(law.n_limbs)]
    top = law.n_limbs - 1
    return [(limb * total, LIMB * (top - place)) for place, limb in enumerate(limbs[:top])], limbs[top] * total


def point(law, total, r, ups):
    """16 r T / 2^k as it comes out where the parts of it are cut up or down: `ups`, one for each limb but the last."""
    lower, highest = parts(law, total, r)
    return highest + sum((part >> n_bits) + up for (part, n_bits), up in zip(lower, ups, strict=True))


def cut(number, n_bits, opened):
    """A number after truncation that opened this word: up where its low bits are beyond those of the word."""
    low = 2**n_bits - 1
    return (number >> n_bits) + ((number & low) > (opened & low))


def probabilities(law, values, opened):
    """The exact law of the index over all r, given the weights and what was opened when the parts were cut."""
    n = 2 ** (LIMB * law.n_limbs)
    lower, highest = parts(law, sum(values), np.arange(n))
    u = highest + sum(cut(part, n_bits, word) for (part, n_bits), word in zip(lower, opened, strict=True))
    # The first candidate whose sum of weights, in sixteenths, is beyond u; else the last.
    index = np.searchsorted(np.cumsum(values[:-1]) << LIMB, u, side="right")
    return np.bincount(index, minlength=len(values)) / n
