import asyncio
import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smpc import (
    FIELD61,
    RING64,
    DomainMismatch,
    FrameRejected,
    PartyFailed,
    SessionBusy,
    SessionMismatch,
    UnsupportedSecurity,
    concatenate,
    run_local,
    share,
)
from smpc.ring import P61
from smpc.transport import HEADER_BYTES

DOMAINS = [RING64, FIELD61]


def signed(domain):
    bound = domain.largest
    edges = [0, 1, -1, bound, -bound, bound - 1, 2**31, -(2**32)]
    return st.sampled_from(edges) | st.integers(-bound, bound)


def reduced(domain, value):
    """Residue of least absolute value: what an opening returns (in the ring, 2^63 is -2^63)."""
    residue = value % domain.modulus
    return residue - domain.modulus if residue > domain.largest else residue


def vectors(domain, n):
    return st.lists(signed(domain), min_size=n, max_size=n).map(lambda v: np.array(v, dtype=np.int64))


def results(protocol, inputs, **options):
    run = run_local(protocol, inputs, **options)
    first = run.results[0] if isinstance(run.results[0], tuple) else (run.results[0],)
    for other in run.results[1:]:
        for mine, theirs in zip(first, other if isinstance(other, tuple) else (other,), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    return run.results[0]


def cause(protocol, inputs):
    with pytest.raises(PartyFailed) as caught:
        run_local(protocol, inputs)
    return caught.value.__cause__


@pytest.mark.parametrize("domain", DOMAINS)
@given(data=st.data(), n_parties=st.integers(2, 5))
def test_inputs_open_to_themselves(domain, data, n_parties):
    inputs = [data.draw(vectors(domain, 4)) for _ in range(n_parties)]

    async def protocol(s, x):
        return await s.open(*await s.input(x, domain=domain))

    for opened, put_in in zip(results(protocol, inputs), inputs, strict=True):
        assert opened.tolist() == put_in.tolist()


@pytest.mark.parametrize("domain", DOMAINS)
@given(data=st.data())
def test_linear_operators_are_those_of_the_plaintext(domain, data):
    x, y = data.draw(vectors(domain, 3)), data.draw(vectors(domain, 3))
    k, public = data.draw(signed(domain)), data.draw(vectors(domain, 3))

    async def protocol(s, mine):
        a, b = (await s.input(mine, domain=domain))[:2]
        return await s.open(
            a + b, a - b, -a, k * a, a * public, a + public, public - a, a - k, a.sum(), a @ public, public @ b
        )

    X, Y, K, C = (np.array(v.tolist(), dtype=object) for v in (x, y, np.array([k] * 3), public))
    expected = [X + Y, X - Y, -X, K * X, X * C, X + C, C - X, X - K, sum(X), sum(X * C), sum(C * Y)]
    for opened, wanted in zip(results(protocol, [x, y, x]), expected, strict=True):
        assert np.ravel(opened).tolist() == [reduced(domain, int(v)) for v in np.ravel(wanted)]


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("n_parties", [2, 3, 5])
@given(data=st.data())
def test_products_are_those_of_the_plaintext(domain, n_parties, data):
    x, y = data.draw(vectors(domain, 4)), data.draw(vectors(domain, 4))

    async def protocol(s, mine):
        a = await s.input(mine, domain=domain)
        return await s.open(await s.mul(a[0], a[1]))

    expected = [reduced(domain, int(p) * int(q)) for p, q in zip(x, y, strict=True)]
    assert results(protocol, [x, y, *[x] * (n_parties - 2)]).tolist() == expected


@pytest.mark.parametrize("domain", DOMAINS)
@given(data=st.data())
def test_matrix_products_are_those_of_the_plaintext(domain, data):
    m, k, n = (data.draw(st.integers(1, 4)) for _ in range(3))
    x, y = data.draw(vectors(domain, m * k)).reshape(m, k), data.draw(vectors(domain, k * n)).reshape(k, n)

    async def protocol(s, mine):
        a = await s.input(mine, domain=domain)
        return await s.open(await s.matmul(a[0], a[1]))

    product = np.array(x.tolist(), dtype=object) @ np.array(y.tolist(), dtype=object)
    assert results(protocol, [x, y]).tolist() == [[reduced(domain, v) for v in row] for row in product.tolist()]


def test_large_products_equal_numpy():
    rng = np.random.default_rng(1)
    x, y = (rng.integers(-(2**63), 2**63, (40, 700), dtype=np.int64) for _ in range(2))

    async def protocol(s, mine):
        a, b = await s.input(mine)
        return await s.open(await s.mul(a, b), await s.matmul(a, b.reshape(700, 40)))

    elementwise, matrix = results(protocol, [x, y])
    assert (elementwise == x * y).all()
    assert (matrix == x @ y.reshape(700, 40)).all()


def test_a_difference_below_zero_opens_as_a_negative_number_in_both_domains():
    async def protocol(s, mine):
        ring, field = await s.input(mine), await s.input(mine, domain=FIELD61)
        return await s.open(ring[0] - ring[1], field[0] - field[1])

    opened = results(protocol, [[3], [10]])
    assert [part.tolist() for part in opened] == [[-7], [-7]]


def test_shapes_broadcast_index_and_reshape_as_in_numpy():
    x, y = np.arange(12).reshape(3, 4), np.array([10, 20, 30, 40])
    picked = np.array([2, 0]), np.array([1, 3])

    async def protocol(s, mine):
        a, b = await s.input(mine)
        return await s.open(
            await s.mul(a, b), a[1], a[picked], a[:, ::2], a.reshape(2, 6), a.reshape((6, -1)), a.sum(axis=1), a[a_mask]
        )

    a_mask = x % 2 == 1
    expected = [
        x * y,
        x[1],
        x[picked],
        x[:, ::2],
        x.reshape(2, 6),
        x.reshape(6, -1),
        x.sum(axis=1),
        x[a_mask],
    ]
    for opened, wanted in zip(results(protocol, [x, y]), expected, strict=True):
        assert opened.tolist() == wanted.tolist()


def test_arrays_are_put_behind_each_other_with_the_widest_of_their_ranges():
    async def protocol(s, mine):
        small, large = await s.input(mine, max_abs=5), await s.input(mine, max_abs=50)
        both = concatenate(small[0], large[1], small[1])
        assert both.bound == 50
        unbounded = (await s.input(mine))[0]
        assert concatenate(small[0], unbounded).bound is None
        for other in ((await s.input(mine, domain=FIELD61))[0], small[0].reshape(1, 2)):
            with pytest.raises((DomainMismatch, ValueError)):
                concatenate(small[0], other)
        with pytest.raises(ValueError, match="fractional"):
            concatenate(small[0], (await s.input([0.5], max_abs=1, frac_bits=4))[0])
        return await s.open(both)

    assert results(protocol, [[1, -2], [3, 4]]).tolist() == [1, -2, 3, 4, 3, 4]


def test_a_share_from_an_input_party_that_is_no_compute_party_is_wrapped():
    packages = share([5, -6], 3)

    async def protocol(s, package):
        return await s.open(s.shared(package.expand()) * 2)

    assert results(protocol, packages).tolist() == [10, -12]


def test_what_is_not_a_share_is_not_wrapped():
    async def wrong_type(s, _):
        s.shared(np.array([1, 2]))

    async def no_element(s, _):
        s.shared(np.array([P61], dtype=np.uint64), FIELD61)

    assert isinstance(cause(wrong_type, [0, 0]), ValueError)
    assert "not an element" in str(cause(no_element, [0, 0]))


def test_inputs_may_have_different_shapes():
    async def protocol(s, mine):
        a = await s.input(mine)
        return [x.shape for x in a], await s.open(a[0].sum() + a[1].sum() + a[2].sum())

    run = run_local(protocol, [np.ones((2, 3), dtype=int), np.array(7), np.zeros((0, 4), dtype=int)])
    assert run.results[1][0] == [(2, 3), (), (0, 4)]
    assert int(run.results[2][1]) == 13


def test_jointly_random_elements_differ_between_runs_and_lie_in_the_domain():
    async def protocol(s, _):
        return await s.open(s.random((3, 5)), s.random(4, FIELD61))

    first, second = results_tuple(protocol), results_tuple(protocol)
    assert first[0].shape == (3, 5)
    assert np.abs(first[1]).max() <= FIELD61.largest
    assert not (first[0] == second[0]).any()


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_party_contributes_to_jointly_random_elements(domain):
    async def protocol(s, _):
        return s.random(100, domain)._share

    shares = run_local(protocol, [0] * 3).results
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not (shares[i] == shares[j]).any()
    # Any one share repeated or left at zero would show here: 100 elements of at least 61 bits.
    assert all(np.unique(share).size == 100 for share in shares)


def results_tuple(protocol):
    return run_local(protocol, [0, 0]).results[0]


# What it costs, in closed form.


@pytest.mark.parametrize("n_parties", [2, 3, 4])
@pytest.mark.parametrize("domain", DOMAINS)
def test_a_product_costs_one_round_and_16_bytes_per_element_and_peer(n_parties, domain):
    size = 1000

    async def protocol(s, x):
        a = s.shared(x, domain)
        await s.mul(a, a)

    cost = run_local(protocol, [np.ones(size, dtype=np.uint64)] * n_parties).cost
    assert cost.rounds == 1
    assert cost.bytes_sent_by_party == ((n_parties - 1) * (HEADER_BYTES + 16 * size),) * n_parties
    assert cost.bytes_sent == n_parties * (n_parties - 1) * (HEADER_BYTES + 16 * size)
    assert cost.triples == size
    assert cost.dealer_bytes == 32 * n_parties + 8 * size


def test_a_matrix_product_costs_one_round_and_the_two_matrices():
    m, k, n = 3, 50, 4

    async def protocol(s, shares):
        await s.matmul(s.shared(shares[0]), s.shared(shares[1]))

    matrices = np.ones((m, k), dtype=np.uint64), np.ones((k, n), dtype=np.uint64)
    cost = run_local(protocol, [matrices] * 3).cost
    assert (cost.rounds, cost.triples, cost.matrix_products) == (1, 0, m * n)
    assert cost.bytes_sent_by_party == (2 * (HEADER_BYTES + 8 * k * (m + n)),) * 3
    assert cost.dealer_bytes == 32 * 3 + 8 * m * n


def test_an_input_costs_one_round_and_a_seed_per_peer():
    async def protocol(s, x):
        await s.input(x)

    cost = run_local(protocol, [np.zeros((100, 100), dtype=int)] * 3).cost
    assert cost.rounds == 1
    assert cost.bytes_sent_by_party == (2 * (HEADER_BYTES + 32 + 2 * 8),) * 3
    assert cost.dealer_bytes == 3 * 32


def test_independent_openings_and_products_share_a_round():
    async def protocol(s, x):
        a, b = await s.input(x)
        c, d = await s.input(x, domain=FIELD61)
        products = await s.mul_many([(a, b), (c, d), (a[:2], 1 - b[:2])])
        return await s.open(a, d, *products)

    run = run_local(protocol, [[1, 2, 3], [4, 5, 6]])
    assert run.cost.rounds == 4
    assert [part.tolist() for part in run.results[1]] == [[1, 2, 3], [4, 5, 6], [4, 10, 18], [4, 10, 18], [-3, -8]]


def test_nothing_to_multiply_costs_nothing():
    async def protocol(s, _):
        return await s.mul_many([])

    assert run_local(protocol, [0, 0]).cost.rounds == 0


def test_public_bytes_reach_everyone():
    async def protocol(s, word):
        return await s.exchange(word)

    run = run_local(protocol, [b"a", b"", b"longer"])
    assert run.results == [[b"a", b"", b"longer"]] * 3


# What a shared value refuses.


def test_shares_of_different_domains_do_not_mix():
    async def add(s, x):
        a, b = (await s.input(x))[0], (await s.input(x, domain=FIELD61))[0]
        return a + b

    async def multiply(s, x):
        a, b = (await s.input(x))[0], (await s.input(x, domain=FIELD61))[0]
        return await s.mul(a, b)

    for protocol in (add, multiply):
        assert isinstance(cause(protocol, [1, 2]), DomainMismatch)


def test_shares_of_different_sessions_do_not_mix():
    kept = []

    async def keep(s, x):
        kept.append((await s.input(x))[0])

    run_local(keep, [1, 2])

    async def local(s, x):
        return (await s.input(x))[0] + kept[s.party]

    async def opened(s, _):
        return await s.open(kept[s.party])

    async def product(s, x):
        return await s.mul((await s.input(x))[0], kept[s.party])

    for protocol in (local, opened, product):
        assert isinstance(cause(protocol, [1, 2]), SessionMismatch)


def test_a_shared_value_shows_nothing_of_its_share():
    async def protocol(s, x):
        a = (await s.input(x))[0]
        assert repr(a) == str(a) == f"{a}" == "Shared(RING64, shape=(2,))"
        assert "Session(party=" in repr(s)
        assert not hasattr(a, "__dict__")
        for forbidden in (
            lambda: bool(a),
            lambda: a == a,  # noqa: PLR0124
            lambda: a != 0,
            lambda: a < 1,
            lambda: np.asarray(a),
            lambda: np.sum([a, a]),
            lambda: int(a),
            lambda: hash(a),
            lambda: pickle.dumps(a),
            lambda: copy.deepcopy(a),
            lambda: a * a,
            lambda: a @ a,
        ):
            with pytest.raises(TypeError):
                forbidden()

    run_local(protocol, [[1, 2], [3, 4]])


def test_floats_are_refused_as_constants_and_inputs():
    async def constant(s, x):
        return (await s.input(x))[0] * 0.5

    async def put_in(s, _):
        return await s.input(0.5)

    for protocol in (constant, put_in):
        assert isinstance(cause(protocol, [1, 2]), ValueError)


def test_matrices_that_do_not_fit_are_refused():
    async def shared(s, x):
        a = (await s.input(x))[0]
        return await s.matmul(a, a)

    async def public(s, x):
        return (await s.input(x))[0] @ np.ones((2, 2), dtype=int)

    for protocol in (shared, public):
        assert isinstance(cause(protocol, [np.ones((2, 3), dtype=int)] * 2), ValueError)


def test_opening_something_else_than_a_share_is_refused():
    async def protocol(s, _):
        return await s.open(3)

    assert isinstance(cause(protocol, [0, 0]), TypeError)


def test_malicious_security_is_refused_and_the_levels_that_exist_are_named():
    async def protocol(_s, _x):
        return None

    with pytest.raises(UnsupportedSecurity, match="semi_honest") as caught:
        run_local(protocol, [1, 2], security="malicious")
    assert caught.value.available == ("semi_honest",)


def test_two_rounds_of_a_session_at_once_are_refused():
    async def protocol(s, x):
        a, b = await s.input(x)
        await asyncio.gather(s.open(a), s.open(b))

    assert isinstance(cause(protocol, [1, 2]), SessionBusy)


def test_parties_that_do_different_things_notice():
    async def other_operation(s, x):
        a, b = await s.input(x)
        return await (s.open(a, b) if s.party == 0 else s.mul(a, b))

    async def other_shape(s, x):
        a = (await s.input(x))[0]
        return await s.open(a if s.party == 0 else a.reshape(2, 1))

    async def other_domain(s, x):
        return await s.input(x, domain=[RING64, FIELD61][s.party])

    for protocol in (other_operation, other_shape, other_domain):
        assert isinstance(cause(protocol, [[1, 2], [3, 4]]), FrameRejected)
