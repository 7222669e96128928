"""Handshake and sealed records against whoever carries them: nothing changed, moved or old is delivered."""

import random
from dataclasses import replace
from itertools import permutations

import pytest
from networks import Network

from smpc import FrameRejected, ProtocolAbort
from smpc.transport import HEADER_BYTES, Identity, Member, Roster, sealing
from smpc.transport.handshake import HELLO_BYTES, Handshake, Hello
from smpc.transport.sealing import PIECE_BYTES, RECORD_OVERHEAD_BYTES, Opener, Sealer

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
SESSION, OTHER_SESSION = b"s" * 16, b"t" * 16

N_TAMPERINGS = 10_000


def roster_of(network, n):
    return Roster(network.roster.members[:n])


def begun(network, n, run="run"):
    roster = roster_of(network, n)
    return [Handshake(roster, network.identities[i], run=run) for i in range(n)]


def others(me, hellos):
    return {i: hello for i, hello in enumerate(hellos) if i != me}


def agreed(handshakes):
    hellos = [handshake.hello for handshake in handshakes]
    return [handshake.agree(others(me, hellos)) for me, handshake in enumerate(handshakes)]


# The handshake.


@pytest.mark.parametrize("n", [2, 3, 5])
def test_all_parties_agree_on_one_session_and_each_direction_has_its_own_key(network: Network, n):
    agreements = agreed(begun(network, n))
    assert len({agreement.session_id for agreement in agreements}) == 1
    keys = []
    for i, j in permutations(range(n), 2):
        agreements[j].check_confirmation(i, agreements[i].confirmation(j))
        assert agreements[i].keys(j)[0] == agreements[j].keys(i)[1]
        keys.append(agreements[i].keys(j)[0])
    assert len(set(keys)) == n * (n - 1)


def test_the_same_parties_and_run_never_get_the_same_session_or_keys(network):
    first, second = (agreed(begun(network, 2)) for _ in range(2))
    assert first[0].session_id != second[0].session_id
    assert first[0].keys(1)[0] != second[0].keys(1)[0]


def _confirmed(handshake, hello, confirmation):
    """Go through with a handshake. A hello that passes but was changed is covered by the signature."""
    handshake.agree({1: hello}).check_confirmation(1, confirmation)


def test_every_single_bit_of_a_hello_counts(network):
    zero, one = begun(network, 2)
    original = one.hello
    hello_of_zero = zero.hello
    confirmation = one.agree({0: hello_of_zero}).confirmation(0)
    refused = 0
    for bit in range(8 * HELLO_BYTES):
        changed = bytearray(original)
        changed[bit // 8] ^= 1 << bit % 8
        victim = Handshake(roster_of(network, 2), network.identities[0], run="run")
        # The victim said what `one` heard, so that only the changed bit is between them.
        victim._mine = Hello.decode(hello_of_zero, sender=0)
        with pytest.raises(FrameRejected) as caught:
            _confirmed(victim, bytes(changed), confirmation)
        assert caught.value.sender == 1
        refused += 1
    assert refused == 8 * HELLO_BYTES


def test_an_untouched_hello_is_confirmed(network):
    zero, one = begun(network, 2)
    hello = zero.hello
    mine = zero.agree({1: one.hello})
    mine.check_confirmation(1, one.agree({0: hello}).confirmation(0))


@pytest.mark.parametrize("length", [0, 1, HELLO_BYTES - 1, HELLO_BYTES + 1])
def test_a_hello_of_another_length_is_rejected(network, length):
    with pytest.raises(FrameRejected, match="136 bytes"):
        begun(network, 2)[0].agree({1: bytes(length)})


def test_a_hello_of_an_earlier_run_cannot_be_confirmed(network):
    old = begun(network, 2)
    recorded_hello = old[1].hello
    recorded_confirmation = agreed(old)[1].confirmation(0)
    fresh = begun(network, 2)[0].agree({1: recorded_hello})
    with pytest.raises(FrameRejected, match="signature"):
        fresh.check_confirmation(1, recorded_confirmation)


def test_a_confirmation_is_of_no_use_to_another_receiver_or_in_another_name(network):
    agreements = agreed(begun(network, 3))
    for_one = agreements[0].confirmation(1)
    agreements[1].check_confirmation(0, for_one)
    for victim, claimed in ((2, 0), (1, 2)):
        with pytest.raises(FrameRejected, match="signature"):
            agreements[victim].check_confirmation(claimed, for_one)
    with pytest.raises(FrameRejected, match="signature"):
        agreements[0].check_confirmation(1, agreements[0].confirmation(1))


def test_parties_who_were_told_different_hellos_do_not_confirm_each_other(network):
    zero, one, two = begun(network, 3)
    split = begun(network, 3)[2]
    hellos = [zero.hello, one.hello]
    first = zero.agree({1: hellos[1], 2: two.hello})
    second = one.agree({0: hellos[0], 2: split.hello})
    assert first.session_id != second.session_id
    with pytest.raises(FrameRejected, match="signature") as caught:
        first.check_confirmation(1, second.confirmation(0))
    assert caught.value.sender == 1


def test_a_go_between_with_its_own_keys_is_noticed(network):
    """The classical attack on unsigned Diffie-Hellman."""
    zero, one = begun(network, 2)
    attacker = Handshake(roster_of(network, 2), network.identities[1], run="run")
    forged = replace(Hello.decode(attacker.hello, sender=1), nonce=Hello.decode(one.hello, sender=1).nonce)
    honest = one.agree({0: zero.hello})
    mine = zero.agree({1: forged.encode()})
    with pytest.raises(FrameRejected, match="signature"):
        mine.check_confirmation(1, honest.confirmation(0))


def test_our_own_hello_sent_back_is_rejected(network):
    zero, _ = begun(network, 2)
    with pytest.raises(FrameRejected, match="names another party"):
        zero.agree({1: zero.hello})
    zero, _ = begun(network, 2)
    renamed = replace(Hello.decode(zero.hello, sender=1), party=1)
    with pytest.raises(FrameRejected, match="repeats ours"):
        zero.agree({1: renamed.encode()})


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31), bytes.fromhex("ec" + "ff" * 30 + "7f")])
def test_a_key_of_small_order_is_rejected(network, point):
    zero, one = begun(network, 2)
    with pytest.raises(FrameRejected, match="small order"):
        zero.agree({1: replace(Hello.decode(one.hello, sender=1), ephemeral=point).encode()})


def test_another_run_another_roster_and_another_number_are_told_apart(network):
    other_run = Handshake(roster_of(network, 2), network.identities[1], run="other")
    with pytest.raises(FrameRejected, match="run of another name"):
        begun(network, 2)[0].agree({1: other_run.hello})
    renamed = Roster((network.roster[0], replace(network.roster[1], name="another name")))
    other_roster = Handshake(renamed, network.identities[1], run="run")
    with pytest.raises(FrameRejected, match="another roster"):
        begun(network, 2)[0].agree({1: other_roster.hello})
    with pytest.raises(FrameRejected, match="another roster"):
        begun(network, 2)[0].agree({1: begun(network, 3)[1].hello})


def test_a_roster_has_different_names_keys_and_certificates_and_the_right_number_of_parties(network):
    a, b = network.roster[0], network.roster[1]
    for field in ("name", "identity", "fingerprint"):
        with pytest.raises(ValueError, match="each needs its own"):
            Roster((a, replace(b, **{field: getattr(a, field)})))
    with pytest.raises(ValueError, match="n_parties"):
        Roster((a,))
    digests = {Roster((a, replace(b, **change))).digest for change in ({}, {"name": "x"}, {"fingerprint": b"x" * 32})}
    digests |= {Roster((b, a)).digest, Roster((a, replace(b, identity=b"x" * 32))).digest}
    assert len(digests) == 5
    assert Roster((a, replace(b, host="elsewhere", port=1))).digest in digests
    with pytest.raises(ValueError, match="32 bytes"):
        Member("x", b"short")
    with pytest.raises(ValueError, match="lists another key for party 1"):
        Handshake(network.roster, Identity.load(1, network.keys[0].identity), run="run")


def test_keys_that_others_can_read_are_not_used(network, tmp_path):
    copy = tmp_path / "copy.key"
    copy.write_bytes(network.keys[0].identity.read_bytes())
    copy.chmod(0o640)
    with pytest.raises(ValueError, match="mode 0640"):
        Identity.load(0, copy)
    assert network.keys[0].identity.stat().st_mode & 0o777 == 0o600


def test_neither_keys_nor_signatures_are_shown(network):
    agreement = agreed(begun(network, 2))[0]
    shown = repr(agreement) + repr(network.identities[0])
    for key in agreement.keys(1):
        assert key.hex() not in shown
    assert repr(Sealer(KEY, SESSION, sender=0, receiver=1)) == "Sealer(sender=0, receiver=1, sequence=0)"


# Sealed records.


def ends(key=KEY, session=SESSION, sender=0, receiver=1):
    return (
        Sealer(key, session, sender=sender, receiver=receiver),
        Opener(key, session, sender=sender, receiver=receiver),
    )


@pytest.mark.parametrize("length", [0, 1, PIECE_BYTES - 1, PIECE_BYTES])
def test_what_was_sealed_is_opened(length):
    sealer, opener = ends()
    piece = random.Random(length).randbytes(length)
    for _ in range(3):
        record = sealer.seal(piece)
        assert len(record) == length + RECORD_OVERHEAD_BYTES
        assert opener.open(record) == piece


@pytest.mark.parametrize(
    "change",
    [
        {"key": OTHER_KEY},
        {"session": OTHER_SESSION},
        {"sender": 1, "receiver": 0},
        {"receiver": 2},
        {"sender": 2},
    ],
)
def test_a_record_of_another_key_session_direction_or_party_is_rejected(change):
    _, opener = ends()
    foreign, _ = ends(**change)
    with pytest.raises(FrameRejected, match="not what the sender sealed for us") as caught:
        opener.open(foreign.seal(b"secret"))
    assert caught.value.sender == 0


def test_the_same_piece_is_never_sealed_to_the_same_bytes():
    sealer, _ = ends()
    assert len({sealer.seal(b"same")[8:] for _ in range(1000)}) == 1000


def test_after_a_refusal_nothing_is_opened_any_more():
    sealer, opener = ends()
    first, second = sealer.seal(b"1"), sealer.seal(b"2")
    with pytest.raises(FrameRejected, match="record 1 came, 0 is due"):
        opener.open(second)
    for record in (first, second):
        with pytest.raises(FrameRejected, match="record 1 came, 0 is due"):
            opener.open(record)


def test_a_key_seals_no_more_than_it_may(monkeypatch):
    monkeypatch.setattr(sealing, "MOST_BLOCKS", 10)
    sealer, _ = ends()
    sealer.seal(bytes(64))
    with pytest.raises(ProtocolAbort, match="as much as it may"):
        sealer.seal(bytes(64))


def _tampered(rng, records):
    """Return a stream of records that differs from the original in one of the ways an attacker has, and its name."""
    at = rng.randrange(len(records))
    stream = list(records)
    kind = rng.choice(["flip", "cut", "grow", "replay", "swap", "drop", "old", "reflect", "other session", "renumber"])
    if kind == "flip":
        changed = bytearray(stream[at])
        for _ in range(rng.choice([1, 1, 1, 2, 8])):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        stream[at] = bytes(changed)
    elif kind == "cut":
        stream[at] = stream[at][: rng.randrange(len(stream[at]))]
    elif kind == "grow":
        stream[at] += rng.randbytes(rng.randrange(1, 40))
    elif kind == "replay":
        stream.insert(at + 1, stream[at])
    elif kind == "swap":
        i, j = rng.sample(range(len(stream)), 2)
        stream[i], stream[j] = stream[j], stream[i]
    elif kind == "drop":
        # The last one alone would only be missing: that is the deadline's business.
        del stream[rng.randrange(len(stream) - 1)]
    elif kind == "old":
        i = rng.randrange(1, len(stream))
        stream[i] = stream[rng.randrange(i)]
    elif kind == "reflect":
        back, _ = ends(key=OTHER_KEY, sender=1, receiver=0)
        stream[at] = [back.seal(b"back") for _ in range(at + 1)][-1]
    elif kind == "other session":
        foreign, _ = ends(session=OTHER_SESSION)
        stream[at] = [foreign.seal(b"foreign") for _ in range(at + 1)][-1]
    else:
        stream[at] = rng.randbytes(8) + stream[at][8:]
    return kind, stream


def _opened(opener, stream):
    """Return the pieces that were opened, and the refusal that ended it, if there was one."""
    pieces = []
    for record in stream:
        try:
            pieces.append(opener.open(record))
        except FrameRejected as error:
            return pieces, error
    return pieces, None


def _attack(n, seed):
    rng = random.Random(seed)
    seen = set()
    for _ in range(n):
        sealer, opener = ends()
        pieces = [rng.randbytes(rng.choice([0, 1, HEADER_BYTES, 200])) for _ in range(rng.randrange(2, 7))]
        kind, stream = _tampered(rng, [sealer.seal(piece) for piece in pieces])
        opened, refusal = _opened(opener, stream)
        if refusal is None:
            # Flips may cancel each other, a record may be exchanged for an equal one; then nothing was changed.
            sealer, _ = ends()
            assert stream == [sealer.seal(piece) for piece in pieces], kind
        else:
            assert refusal.sender == 0
            seen.add(kind)
        # A true beginning is all that was delivered.
        assert opened == pieces[: len(opened)]
    return seen


def test_ten_thousand_random_tamperings_are_all_rejected_and_only_a_true_beginning_is_delivered():
    assert len(_attack(N_TAMPERINGS, seed=5)) == 10


def test_untampered_streams_are_opened_whole():
    """The control of the test above: the same streams, not tampered with."""
    rng = random.Random(5)
    for _ in range(200):
        sealer, opener = ends()
        pieces = [rng.randbytes(rng.choice([0, 1, HEADER_BYTES, 200])) for _ in range(4)]
        assert [opener.open(sealer.seal(piece)) for piece in pieces] == pieces
