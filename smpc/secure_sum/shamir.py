"""Shamir's secret sharing of 32-byte secrets: any t shares give them back, any t - 1 say nothing.

p         2^257 - 93, a prime above every 32-byte number, so that a secret is one field element as it is
t         threshold; the polynomial has degree t - 1 and uniform coefficients
x         a holder's place, 1, 2, ...; its share is the polynomial's value there, the secret the value at 0
Source: Shamir 1979, "How to share a secret", Communications of the ACM 22(11).

Python's integers are the right arithmetic here: a share costs t - 1 products of a wide number by a small one. They are
not constant-time; shares are made and used at one party, whose clock others do not read to the nanosecond.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

from privacy.randomness import Rng

P = 2**257 - 93
SECRET_BYTES = 32
SHARE_BYTES = 33


def split(secret: bytes, places: Sequence[int], threshold: int, *, rng: Rng) -> list[bytes]:
    """Return a share of the secret for each place.

    Parameters
    ----------
    secret
        32 bytes.
    places
        Distinct integers >= 1, at least `threshold` of them.
    threshold
        Number of shares that give the secret back; >= 2.
    rng
        Source of the polynomial. Anything but a cryptographic one gives the secret away.

    Returns
    -------
    Shares of 33 bytes, in the order of the places.

    Examples
    --------
    >>> from privacy import SecureRng
    >>> shares = split(bytes(range(32)), [1, 2, 3, 4, 5], 3, rng=SecureRng())
    >>> combine({2: shares[1], 5: shares[4], 3: shares[2]}) == bytes(range(32))
    True
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"secret must have {SECRET_BYTES} bytes, got {len(secret)}")
    if not 2 <= threshold <= len(places):
        raise ValueError(f"threshold must be in 2..{len(places)} (one share for each place), got {threshold!r}")
    if len(set(places)) != len(places) or min(places) < 1 or max(places) >= P:
        raise ValueError("places must be distinct integers >= 1: the secret lies at 0")
    drawn = _uniform(rng)
    # From the highest power down to the secret.
    coefficients = [*(next(drawn) for _ in range(threshold - 1)), int.from_bytes(secret, "little")]
    return [_value(coefficients, x).to_bytes(SHARE_BYTES, "little") for x in places]


def combine(shares: dict[int, bytes]) -> bytes | None:
    """Return the secret that exactly `threshold` shares stand for, by place, or None if it is no 32-byte number.

    Wrong shares give a wrong secret: whoever combines checks the result against something public.

    Raises
    ------
    ValueError
        If a share is malformed (`is_share`).
    """
    if not all(map(is_share, shares.values())):
        raise ValueError(f"a share is a field element of {SHARE_BYTES} bytes, little-endian, below 2^257 - 93")
    places = tuple(shares)
    weights = _weights_at_zero(places)
    numbers = (int.from_bytes(shares[x], "little") for x in places)
    secret = sum(weight * number for weight, number in zip(weights, numbers, strict=True)) % P
    return secret.to_bytes(SECRET_BYTES, "little") if secret < 1 << (8 * SECRET_BYTES) else None


def is_share(share: bytes) -> bool:
    """Tell whether these bytes are a field element in its only encoding."""
    return len(share) == SHARE_BYTES and int.from_bytes(share, "little") < P


def _value(coefficients: Sequence[int], x: int) -> int:
    # Horner's rule. Places are small, so the number grows by few bits a step: one reduction at the end is cheaper than
    # one at each step.
    value = 0
    for coefficient in coefficients:
        value = value * x + coefficient
    return value % P


def _uniform(rng: Rng) -> Iterator[int]:
    """Yield independent uniform field elements: 257 bits, drawn again at the 93 numbers that are no elements."""
    while True:
        block = rng.bytes(64 * SHARE_BYTES)
        for start in range(0, len(block), SHARE_BYTES):
            number = int.from_bytes(block[start : start + SHARE_BYTES], "little") >> 7
            if number < P:
                yield number


# In a complete graph all secrets are put together from the same holders.
@lru_cache(maxsize=64)
def _weights_at_zero(places: tuple[int, ...]) -> tuple[int, ...]:
    """Return Lagrange's weights: sum_i w_i f(x_i) = f(0) for every polynomial of degree below len(places).

    w_i = prod_{j != i} x_j / (x_j - x_i) = X / (x_i prod_{j != i} (x_j - x_i)), with X the product of all places.
    """
    product = math.prod(places) % P
    denominators = [x * math.prod(y - x for y in places if y != x) % P for x in places]
    # Montgomery's trick: one inversion for all denominators.
    prefix = [1]
    for denominator in denominators:
        prefix.append(prefix[-1] * denominator % P)
    inverse = pow(prefix[-1], -1, P)
    weights = [0] * len(places)
    for i in reversed(range(len(places))):
        weights[i] = product * inverse * prefix[i] % P
        inverse = inverse * denominators[i] % P
    return tuple(weights)
