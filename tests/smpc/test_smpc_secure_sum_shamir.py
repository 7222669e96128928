"""Shamir's shares against Lagrange's formula in fractions, and what fewer than the threshold say: nothing."""

import itertools
import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from privacy.randomness import InsecureSeededRng, SecureRng
from smpc.secure_sum import shamir

ALPHA = 1e-3
SAMPLE_SIZE = 4096


def lagrange_at(points, x, p):
    """Value at x of the polynomial through the points: one inverse for each factor, as it is written in books."""
    total = 0
    for xi, yi in points:
        term = yi
        for xj, _ in points:
            if xj != xi:
                term = term * (x - xj) * pow(xi - xj, -1, p) % p
        total = (total + term) % p
    return total


def number(share):
    return int.from_bytes(share, "little")


@given(st.binary(min_size=32, max_size=32), st.data())
def test_any_threshold_of_shares_gives_the_secret_as_lagranges_formula_does(secret, data):
    n = data.draw(st.integers(2, 12))
    threshold = data.draw(st.integers(2, n))
    places = data.draw(st.lists(st.integers(1, 10_000), min_size=n, max_size=n, unique=True))
    shares = dict(zip(places, shamir.split(secret, places, threshold, rng=SecureRng()), strict=True))
    chosen = data.draw(st.permutations(places))[:threshold]
    points = [(x, number(shares[x])) for x in chosen]
    assert shamir.combine({x: shares[x] for x in chosen}) == secret
    assert lagrange_at(points, 0, shamir.P) == number(secret)
    # Every other share lies on the same polynomial.
    assert all(lagrange_at(points, x, shamir.P) == number(shares[x]) for x in places)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.integers(2, 8))
def test_one_share_less_is_consistent_with_every_secret(secret, other, threshold):
    places = list(range(1, threshold + 1))
    shares = dict(zip(places, shamir.split(secret, places, threshold, rng=SecureRng()), strict=True))
    last = shares.pop(threshold)
    points = [(0, number(other)), *((x, number(share)) for x, share in shares.items())]
    fitting = lagrange_at(points, threshold, shamir.P).to_bytes(shamir.SHARE_BYTES, "little")
    assert shamir.combine(shares | {threshold: fitting}) == other
    assert (fitting == last) == (other == secret)


def test_in_a_small_field_the_law_of_two_shares_of_three_is_the_same_for_every_secret(monkeypatch):
    monkeypatch.setattr(shamir, "P", 11)
    laws = [
        Counter(
            tuple(shamir._value([a, b, secret], x) for x in (2, 7)) for a, b in itertools.product(range(11), repeat=2)
        )
        for secret in range(11)
    ]
    assert all(law == laws[0] for law in laws)
    assert set(laws[0].values()) == {1}
    # Control: with a polynomial of one degree less, two shares are the secret.
    linear = [Counter(tuple(shamir._value([a, s], x) for x in (2, 7)) for a in range(11)) for s in range(11)]
    assert not set(linear[0]) & set(linear[1])


def shares_at_one(threshold, drawn):
    out = []
    for _ in range(SAMPLE_SIZE):
        coefficients = [*itertools.islice(drawn, threshold - 1), 5]
        out.append(shamir._value(coefficients, 1))
    return np.array([share >> 253 for share in out])


def uniform_pvalue(nibbles):
    return stats.chisquare(np.bincount(nibbles, minlength=16)).pvalue


def test_a_share_is_uniform_and_one_from_short_coefficients_is_not():
    assert uniform_pvalue(shares_at_one(3, shamir._uniform(InsecureSeededRng(1)))) > ALPHA
    short = (number(InsecureSeededRng(i).bytes(31)) for i in itertools.count())
    assert uniform_pvalue(shares_at_one(3, short)) < ALPHA


def test_the_modulus_is_prime_and_above_every_secret():
    # Miller and Rabin's test, to 64 bases.
    p = shamir.P
    assert p > 2**256
    odd, twos = p - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    bases = random.Random(1)
    for _ in range(64):
        x = pow(bases.randrange(2, p - 1), odd, p)
        assert x in (1, p - 1) or any((x := x * x % p) == p - 1 for _ in range(twos - 1))


def test_weights_reproduce_every_power_at_zero():
    weights = shamir._weights_at_zero((3, 8, 20, 100))
    for power in range(4):
        assert sum(w * x**power for w, x in zip(weights, (3, 8, 20, 100), strict=True)) % shamir.P == (power == 0)
    exact = [Fraction(8 * 20 * 100, (8 - 3) * (20 - 3) * (100 - 3))]
    assert weights[0] == exact[0].numerator * pow(exact[0].denominator, -1, shamir.P) % shamir.P


def test_malformed_shares_and_arguments_are_refused():
    too_large = shamir.P.to_bytes(33, "little")
    assert not shamir.is_share(too_large)
    assert not shamir.is_share(bytes(32))
    assert shamir.is_share((shamir.P - 1).to_bytes(33, "little"))
    with pytest.raises(ValueError, match="field element"):
        shamir.combine({1: too_large, 2: bytes(33)})
    for secret, places, threshold in (
        (bytes(31), [1, 2], 2),
        (bytes(32), [1, 2], 3),
        (bytes(32), [1, 1], 2),
        (bytes(32), [0, 1], 2),
        (bytes(32), [1, 2], 1),
    ):
        with pytest.raises(ValueError):
            shamir.split(secret, places, threshold, rng=SecureRng())


def test_numbers_above_every_secret_are_no_secret():
    # A constant polynomial of value 2^256, which no 32 bytes encode.
    share = (2**256).to_bytes(33, "little")
    assert shamir.combine({1: share, 2: share}) is None
