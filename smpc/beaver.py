"""Beaver's products from opened differences: x y = c + d b + a e + d e, with d = x - a and e = y - b known to all.

Source: Beaver 1991 (CRYPTO), "Efficient multiparty protocols using circuit randomization".
"""

from __future__ import annotations

import numpy as np

from smpc._ring_matmul import matmul_sum
from smpc.material import Elements
from smpc.ring import RING64, Domain, Words

# Elements at a time: seven arrays of 128 KiB stay in the second-level cache.
_CHUNK = 1 << 14


def product_share(
    domain: Domain, opened: tuple[Words, Words], triple: tuple[Elements, Elements, Elements], *, first: bool
) -> Words:
    """Return a party's share of the elementwise product.

    Parameters
    ----------
    opened
        d and e, one shape.
    triple
        The party's shares of a, b and c, shape (n,).
    first
        Whether this is party 0, which alone adds the public d e: it is folded into d (b + e).
    """
    d, e = (part.reshape(-1) for part in opened)
    a, b, c = triple
    out = np.empty(len(d), dtype=np.uint64)
    if domain is not RING64:
        z = domain.mul(d, domain.add(b, e) if first else b)
        domain.add(z, c, out=z)
        return domain.add(z, domain.mul(a, e), out=out)
    scratch = np.empty(min(_CHUNK, len(d)), dtype=np.uint64)
    for start in range(0, len(d), _CHUNK):
        part = slice(start, start + _CHUNK)
        z, t = out[part], scratch[: len(d) - start]
        np.multiply(a[part], e[part], out=z)
        z += c[part]
        if first:
            np.add(b[part], e[part], out=t)
            t *= d[part]
        else:
            np.multiply(b[part], d[part], out=t)
        z += t
    return out


def matrix_product_share(
    domain: Domain, opened: tuple[Words, Words], triple: tuple[Elements, Elements, Elements], *, first: bool
) -> Words:
    """Return a party's share of the product of matrices; parameters as in `product_share`, each in its own shape."""
    d, e = opened
    a, b, c = (part.reshape(shape) for part, shape in zip(triple, _shapes(d, e), strict=True))
    right = domain.add(b, e) if first else b
    if domain is RING64:
        # Both products go through the same buffers.
        z = matmul_sum([(d, right), (a, e)])
        z += c
        return z
    z = domain.matmul(d, right)
    domain.add(z, c, out=z)
    return domain.add(z, domain.matmul(a, e), out=z)


def _shapes(d: Words, e: Words) -> tuple[tuple[int, ...], ...]:
    return d.shape, e.shape, (d.shape[0], e.shape[1])
