"""Sums against Python's integers, whoever drops out and when; too large, too few or out of order is an error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from secure_sum_driver import STEPS, Network, complete_plan, new_sites, roster, sparse_plan

from smpc import (
    RangeExceeded,
    RecoveryFailed,
    SecureSumClient,
    SessionReused,
    StepRefused,
    TooFewContributors,
    plan_sum,
    secure_sum_local,
)
from smpc.secure_sum import masks
from smpc.secure_sum.plan import SumPlan

LARGEST = 2**63 - 1


def plain_sum(vectors, contributors):
    return [sum(int(vectors[site][i]) for site in contributors) for i in range(len(vectors[0]))]


@st.composite
def runs(draw):
    n_sites = draw(st.integers(3, 7))
    # Both rings, and the largest number that each of them admits.
    max_abs = draw(st.sampled_from([0, 1, 1000, (2**31 - 1) // n_sites, 2**31 // n_sites + 1, LARGEST // n_sites]))
    n_counters = draw(st.integers(1, 5))
    edges = st.sampled_from([0, max_abs, -max_abs])
    counters = st.one_of(edges, st.integers(-max_abs, max_abs))
    vectors = draw(
        st.lists(st.lists(counters, min_size=n_counters, max_size=n_counters), min_size=n_sites, max_size=n_sites)
    )
    threshold = draw(st.integers(n_sites // 2 + 1, n_sites))
    leaving = draw(st.lists(st.integers(0, n_sites - 1), unique=True, max_size=n_sites - threshold))
    missing = {}
    for site in leaving:
        missing.setdefault(draw(st.sampled_from(STEPS)), []).append(site)
    return vectors, max_abs, threshold, missing


@given(runs())
def test_a_sum_is_exact_whoever_drops_out_and_when(run):
    vectors, max_abs, threshold, missing = run
    outcome = secure_sum_local(vectors, max_abs=max_abs, threshold=threshold, min_contributors=2, dropouts=missing)
    silent = [site for step in STEPS[:3] for site in missing.get(step, ())]
    assert outcome.contributors == tuple(site for site in range(len(vectors)) if site not in silent)
    assert outcome.total.dtype == np.int64
    assert outcome.total.tolist() == plain_sum(vectors, outcome.contributors)
    assert not outcome.refusals


@settings(max_examples=12)
@given(
    st.integers(8, 14),
    st.sampled_from([4, 6]),
    st.dictionaries(st.integers(0, 13), st.sampled_from(STEPS), max_size=2),
    st.sampled_from([1000, 10**15]),
)
def test_a_sum_over_a_sparse_graph_is_exact(n_sites, degree, leaving, max_abs):
    sites = new_sites(n_sites)
    vectors = np.random.default_rng(n_sites).integers(-max_abs, max_abs, (n_sites, 3), endpoint=True)
    missing = {}
    for site, step in leaving.items():
        if site < n_sites:
            missing.setdefault(step, []).append(site)
    # Any two may be missing among the holders of a secret.
    plan = sparse_plan(sites, degree, degree - 2, max_abs=max_abs)
    network = Network(plan, sites, vectors, missing=missing)
    result = network.run()
    silent = {site for step in STEPS[:3] for site in missing.get(step, ())}
    assert result.contributors == tuple(site for site in range(n_sites) if site not in silent)
    assert result.total.tolist() == plain_sum(vectors, result.contributors)


def test_vectors_longer_than_a_chunk_are_summed_in_both_rings():
    for max_abs in (1000, 10**12):
        n_counters = 2 * masks._CHUNK_BYTES // 4 + 3
        vectors = np.random.default_rng(1).integers(-max_abs, max_abs, (3, n_counters))
        run = secure_sum_local(vectors, max_abs=max_abs, threshold=2, min_contributors=2, dropouts={"mask": [1]})
        assert (run.total == vectors[0] + vectors[2]).all()


@pytest.mark.slow
def test_a_hundred_and_twenty_sites_use_the_sparse_graph_and_lose_some():
    vectors = np.random.default_rng(2).integers(-99, 99, (120, 4))
    run = secure_sum_local(
        vectors, max_abs=99, dropouts={"share": [3], "mask": [50, 51], "confirm": [7], "unmask": [9]}
    )
    assert len(run.contributors) == 117
    assert (run.total == vectors[list(run.contributors)].sum(axis=0)).all()


@pytest.mark.slow
def test_a_thousand_sites_lose_fifty():
    vectors = np.random.default_rng(3).integers(-(10**12), 10**12, (1000, 50))
    dropouts = {"advertise": range(10), "share": range(10, 20), "mask": range(20, 40), "unmask": range(40, 50)}
    run = secure_sum_local(vectors, max_abs=10**12, dropouts=dropouts)
    assert run.contributors == tuple(range(40, 1000))
    assert (run.total == vectors[40:].sum(axis=0)).all()


@pytest.mark.parametrize("step", STEPS)
def test_too_many_dropouts_in_any_step_open_nothing(step):
    sites = new_sites(5)
    network = Network(complete_plan(sites, threshold=4), sites, np.ones((5, 3), int), missing={step: [0, 1]})
    with pytest.raises(TooFewContributors) as raised:
        network.run()
    assert (raised.value.step, raised.value.present, raised.value.required) == (step, 3, 4)
    with pytest.raises(StepRefused):
        network.server.result()
    with pytest.raises(StepRefused):
        network.server.receive(2, b"")


def test_the_minimum_of_contributors_is_kept_by_each_site_too():
    sites = new_sites(5)
    plan = complete_plan(sites, threshold=3, min_contributors=5)
    network = Network(plan, sites, np.ones((5, 3), int))
    # A server that does not keep the rule that all agreed on.
    network.run(until="mask")
    network.turn("mask", 0, network.answers[0])
    from smpc.secure_sum import messages

    survivors = messages.encode_sites(plan, [0, 1, 2, 3])
    with pytest.raises(TooFewContributors):
        network.runs[0].confirm(messages.from_server(plan, messages.Kind.SURVIVORS, 0, survivors))
    with pytest.raises(StepRefused):
        network.runs[0].unmask(b"")


def test_a_sparse_run_without_enough_holders_of_one_secret_fails_with_the_site():
    sites = new_sites(12)
    plan = sparse_plan(sites, 4, 4)
    victims = plan.peers[5][:2]
    network = Network(plan, sites, np.ones((12, 3), int), missing={"unmask": victims})
    with pytest.raises(RecoveryFailed) as raised:
        network.run()
    assert raised.value.site in {site for victim in victims for site in plan.holders(victim)}


def test_a_vector_beyond_the_declared_bound_is_refused_before_it_is_masked():
    sites = new_sites(3)
    network = Network(complete_plan(sites, max_abs=10), sites, [[0, 0, 0]] * 3)
    network.run(until="mask")
    run, answer = network.runs[0], network.answers[0]
    for wrong in ([11, 0, 0], [0, 0, -11], [-(2**63), 0, 0], np.array([2**63, 0, 0], dtype=np.uint64)):
        with pytest.raises(RangeExceeded):
            run.mask(answer, wrong)
    for wrong in ([1, 2], [[1, 2, 3]], [1.0, 2.0, 3.0]):
        with pytest.raises(ValueError, match="values must"):
            run.mask(answer, wrong)
    # The step was not taken.
    assert len(run.mask(answer, [10, -10, 0])) > 0


def test_a_bound_whose_sum_could_wrap_is_refused():
    sites = new_sites(3)
    assert complete_plan(sites, max_abs=LARGEST // 3).max_abs == LARGEST // 3
    with pytest.raises(RangeExceeded, match=f"max_abs <= {LARGEST // 3}"):
        complete_plan(sites, max_abs=LARGEST // 3 + 1)


def test_the_ring_has_32_bits_up_to_the_last_sum_that_fits():
    sites = new_sites(3)
    below, above = (complete_plan(sites, max_abs=bound).word.itemsize for bound in ((2**31 - 1) // 3, 2**31 // 3 + 1))
    assert (below, above) == (4, 8)


def test_a_session_id_is_used_once_by_each_site():
    sites = new_sites(3)
    plan = complete_plan(sites)
    sites[0].start(plan)
    again = SumPlan(roster(sites), 5, 7, 2, 2, 2, plan.session_id)
    for same_id in (plan, again):
        with pytest.raises(SessionReused):
            sites[0].start(same_id)
    sites[0].start(complete_plan(sites, seed=1))


def test_a_site_that_is_not_on_the_roster_cannot_start():
    with pytest.raises(ValueError, match="roster"):
        new_sites(1, seed=9)[0].start(complete_plan(new_sites(3)))


@pytest.mark.parametrize(
    "change",
    [
        {"roster": (b"\x01" * 32, b"\x02" * 32)},
        {"roster": (b"\x01" * 32, b"\x01" * 32, b"\x02" * 32)},
        {"roster": (b"\x01" * 32, b"\x01" * 31, b"\x02" * 32)},
        {"n_counters": 0},
        {"n_counters": 2**40},
        {"max_abs": -1},
        {"max_abs": True},
        {"threshold": 1},
        {"threshold": 4},
        {"min_contributors": 1},
        {"min_contributors": 4},
        {"degree": 3},
        {"session_id": b"short"},
    ],
)
def test_a_plan_whose_parts_do_not_fit_is_refused(change):
    parts = {"roster": tuple(bytes([i]) * 32 for i in range(3)), "n_counters": 3, "max_abs": 5, "degree": 2}
    parts |= {"threshold": 2, "min_contributors": 2, "session_id": bytes(16)}
    SumPlan(**parts)
    with pytest.raises(ValueError):
        SumPlan(**(parts | change))


def test_above_a_hundred_sites_the_parameters_follow_from_the_fractions():
    keys = [i.to_bytes(32, "big") for i in range(1, 202)]
    plan = plan_sum(keys, 10, max_abs=1, corruption=0.1, dropout=0.05)
    assert plan.degree < 40
    assert plan.min_contributors == 201 - 11
    with pytest.raises(ValueError, match="threshold is computed"):
        plan_sum(keys, 10, max_abs=1, threshold=5)
    with pytest.raises(ValueError, match="min_contributors must be >= 190"):
        plan_sum(keys, 10, max_abs=1, corruption=0.1, dropout=0.05, min_contributors=100)


def test_costs_are_those_of_the_layout():
    run = secure_sum_local(np.ones((4, 1000), int), max_abs=1)
    envelope = 42 + 64
    sent = (96) + 3 * (2 + 82) + (1 + 4 * 1000) + (32 + 3 * 18) + 4 * (2 + 1 + 33) + 5 * envelope
    received = 3 * (42 + 96 + 64) + 3 * (2 + 82) + 1 + 3 * 18 + 4 * 42
    assert run.cost.bytes_sent == [sent] * 4
    assert run.cost.bytes_received == [received] * 4
    assert min(run.cost.client_seconds) > 0
    assert run.cost.server_seconds > 0


def test_no_object_of_a_run_prints_a_secret():
    sites = new_sites(3)
    network = Network(complete_plan(sites), sites, [[987654, 0, 0]] * 3)
    network.run(until="unmask")
    for thing in (network.server, network.runs[0], network.runs[0]._mask_key, SecureSumClient(sites[0]._signing_key)):
        assert "987654" not in repr(thing)
        assert sites[0]._signing_key.private_bytes_raw().hex() not in repr(thing)
