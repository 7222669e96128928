import pytest

from smpc import PartyFailed, ProtocolAbort, run_local
from smpc.public_coins import _commitment, coin


async def two_coins(s, _):
    return await s.coin(40), await s.coin(40)


@pytest.mark.parametrize("n_parties", [2, 3, 5])
def test_all_parties_get_one_coin_and_every_call_another(n_parties):
    run = run_local(two_coins, [0] * n_parties)
    assert len(set(run.results)) == 1
    first, second = run.results[0]
    assert len(first) == 40
    assert first != second
    assert run.cost.rounds == 4
    assert run_local(two_coins, [0] * n_parties).results[0] != run.results[0]


class Cheating:
    """A session whose owner shows a number that it chooses after it has seen the other's."""

    def __init__(self, session):
        self._session = session
        self.party, self.rng, self.session_id = session.party, session.rng, session.session_id
        self._calls = 0

    async def exchange(self, payload):
        self._calls += 1
        return await self._session.exchange(payload if self._calls == 1 else bytes(32))


def test_a_party_that_shows_another_number_ends_the_run():
    async def protocol(s, _):
        return await coin(Cheating(s) if s.party == 1 else s, 8)

    with pytest.raises(PartyFailed) as caught:
        run_local(protocol, [0, 0], timeout=5)
    assert isinstance(caught.value.__cause__, ProtocolAbort)
    assert "party 1 showed" in str(caught.value.__cause__)


def test_a_commitment_is_bound_to_party_and_run():
    # Otherwise whoever speaks last could send the other's commitment again, then its number: the coin would be zero.
    class Of:
        def __init__(self, session_id):
            self.session_id = session_id

    seed = bytes(range(32))
    commitments = {_commitment(Of(run), party, seed) for run in (bytes(16), bytes(15) + b"1") for party in (0, 1)}
    assert len(commitments) == 4


def test_transcripts_that_agree_pass_and_those_that_differ_end_the_run():
    async def same(s, x):
        a, b = await s.input(x)
        await s.open(a + b)
        await s.check_transcripts()

    assert run_local(same, [[1], [2]]).results == [None, None]

    async def forged(s, x):
        await s.input(x)
        if s.party == 1:
            s._transcript.update(b"another operation")
        await s.check_transcripts()

    with pytest.raises(PartyFailed) as caught:
        run_local(forged, [[1], [2]], timeout=5)
    assert isinstance(caught.value.__cause__, ProtocolAbort)
