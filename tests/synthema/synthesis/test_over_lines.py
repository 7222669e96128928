"""The same coroutine where parties have real lines: through a relay, with a dealer that serves while they compute."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from networks import Network, make_keys, outcomes
from synthesis_members import shared_out, small_frames, small_study

from smpc.online_dealer import serve_run
from smpc.party import run_party
from smpc.remote_material import remote_material
from synthema.conducting import LEAD, conduct
from synthema.errors import QuestionRefused
from synthema.marginal_layout import synthesis_layout
from synthema.questions import Measure, encode_question
from synthema.validity import check_contributions

N = 3


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return Network([make_keys(folder, name) for name in ("a", "b", "c")], make_keys(folder, "relay"))


def run_over_lines(network, study, lead=conduct):
    """What each party returns or raises."""
    packages = shared_out(study, small_frames())
    with network.start_relay() as relay:
        lines = network.connect("relay", N, relay=relay, run="job/1/mpc")
        dealt = [network.connect("relay", 2, relay=relay, run=f"job/1/deal/{i}") for i in range(N)]

        def party(i):
            async def protocol(session, data):
                return await (lead if i == LEAD else conduct)(session, data, study)

            store = remote_material(dealt[i][1], party=i, n_parties=N)
            return run_party(protocol, packages[i], transport=lines[i], material=store, timeout=20.0).result

        with ThreadPoolExecutor(1) as pool:
            dealer = pool.submit(serve_run, [ends[0] for ends in dealt], n_parties=N)
            found = outcomes([lambda i=i: party(i) for i in range(N)])
            dealer.exception(20)
    return found


@pytest.mark.parametrize("mechanism", ["mst", pytest.param("aim", marks=pytest.mark.slow)])
def test_parties_with_lines_of_their_own_return_one_answer(network, mechanism):
    answers = run_over_lines(network, small_study(mechanism, epsilon=2.0))
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["mechanism"] == mechanism
    assert answers[0]["cost"]["choices"] > 0


def test_a_lead_that_asks_for_too_much_is_refused_by_each_of_the_others(network):
    async def lies(session, packages, study):
        cap = study.largest_cohort
        await check_contributions(session, synthesis_layout(study), packages, sites=tuple(study.sites), cap=cap)
        await session.exchange(encode_question(Measure(cliques=(("a",),), rho=1e6)))
        return await session.exchange(b"")

    found = run_over_lines(network, small_study("mst", epsilon=1.0), lead=lies)
    assert all(isinstance(error, QuestionRefused) for error in found[1:])
