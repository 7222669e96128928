import asyncio
import time

import numpy as np
import pytest

from privacy.randomness import InsecureSeededRng, SecureRng
from smpc import Dealer, PartyFailed, SmpcError, run_local, run_local_async
from smpc.session import Session
from smpc.transport import InProcessTransport

ONE = [np.array([1]), np.array([2]), np.array([3])]


async def add(s, x):
    a = await s.input(x)
    return await s.open(a[0] + a[1] + a[2])


def test_a_party_that_raises_stops_all_and_is_named_with_its_error():
    class Boom(Exception):
        pass

    stopped = []

    async def protocol(s, x):
        try:
            a = await s.input(x)
            if s.party == 1:
                raise Boom
            return await s.open(a[0])
        finally:
            stopped.append(s.party)

    began = time.perf_counter()
    with pytest.raises(PartyFailed) as caught:
        run_local(protocol, ONE)
    assert caught.value.party == 1
    assert isinstance(caught.value.__cause__, Boom)
    assert sorted(stopped) == [0, 1, 2]
    assert time.perf_counter() - began < 1.0


def test_the_text_of_a_partys_error_is_not_repeated():
    async def protocol(_s, x):
        raise ValueError(f"patient {x}")

    with pytest.raises(PartyFailed) as caught:
        run_local(protocol, ["secret"] * 2)
    assert "secret" not in str(caught.value)


def test_a_silent_party_is_named_after_the_timeout():
    async def protocol(s, x):
        a = await s.input(x)
        if s.party == 2:
            await asyncio.sleep(3600)
        return await s.open(a[0])

    began = time.perf_counter()
    with pytest.raises(PartyFailed, match=r"within 0\.2 s") as caught:
        run_local(protocol, ONE, timeout=0.2)
    assert caught.value.party == 2
    assert time.perf_counter() - began < 1.2


def test_a_party_that_leaves_early_is_named_at_once():
    async def protocol(s, x):
        a = await s.input(x)
        if s.party == 0:
            return None
        return await s.open(a[0])

    began = time.perf_counter()
    with pytest.raises(PartyFailed, match="closed") as caught:
        run_local(protocol, ONE)
    assert caught.value.party == 0
    assert time.perf_counter() - began < 1.0


def test_a_running_loop_is_refused_and_the_other_door_works_there():
    async def main():
        with pytest.raises(SmpcError, match="run_local_async"):
            run_local(add, ONE)
        return await run_local_async(add, ONE)

    assert asyncio.run(main()).results[0].tolist() == [6]


def test_a_cancelled_run_cancels_its_parties():
    async def protocol(_s, _x):
        await asyncio.sleep(3600)

    async def main():
        async with asyncio.timeout(0.05):
            await run_local_async(protocol, ONE)

    with pytest.raises(TimeoutError):
        asyncio.run(main())


def test_the_same_seed_gives_the_same_views_and_another_gives_others():
    def frames(seed):
        run = run_local(add, ONE, record_views=True, rng=InsecureSeededRng(seed))
        return [frame.payload.tobytes() for view in run.views for frame in view.record.frames]

    assert frames(1) == frames(1)
    assert frames(1) != frames(2)


def test_views_are_kept_only_if_asked_for():
    assert run_local(add, ONE).views is None
    run = run_local(add, ONE, record_views=True)
    assert [view.party for view in run.views] == [0, 1, 2]
    # Two peers in each of two rounds.
    assert all(len(view.record.frames) == 4 for view in run.views)
    assert "cost=" in repr(run)
    assert "array" not in repr(run)


@pytest.mark.parametrize("inputs", [[], [1], [1] * 6])
def test_numbers_of_parties_outside_2_to_5_are_refused(inputs):
    with pytest.raises(ValueError, match="n_parties"):
        run_local(add, inputs)


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan")])
def test_impossible_timeouts_are_refused(timeout):
    with pytest.raises(ValueError, match="timeout"):
        run_local(add, ONE, timeout=timeout)


@pytest.mark.parametrize(("change", "name"), [({"party": 2}, "party"), ({"session_id": b"short"}, "session_id")])
def test_a_session_checks_what_it_is_given(change, name):
    good = {
        "party": 0,
        "n_parties": 2,
        "transport": InProcessTransport.connect(2)[0],
        "material": Dealer(2).store(0),
        "session_id": bytes(16),
        "rng": SecureRng(),
    }
    with pytest.raises(ValueError, match=name):
        Session(**{**good, **change})
