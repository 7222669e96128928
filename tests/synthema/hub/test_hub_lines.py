"""Members' lines through a real hub: mail, absence, back-pressure, what breaks the rules."""

import secrets
import time

import pytest
from hubs import IMPATIENT, Caller, Peer, join, peers, wait_for

from synthema.messages import HUB, AskJob, Mail, encode
from synthema.networks.line import HubAddress, LineDown, MemberAbsent
from synthema.networks.line_wire import (
    CLOSED,
    CLOSING_REASONS,
    LINE_HELLO,
    LINE_MAGIC,
    LINE_NOTICE,
    MALFORMED,
    NO_CERTIFICATE,
    NOT_A_MEMBER,
    TOO_LATE,
)

JOB = "ab" * 32
HELLO = LINE_HELLO.pack(LINE_MAGIC, 0)


def mail(number=0, what="shares"):
    return Mail(job=JOB, attempt=1, what=what, number=number)


@pytest.mark.parametrize("size", [0, 1 << 20, 1 << 23])
def test_two_members_exchange_messages(town, size):
    payload = secrets.token_bytes(size)
    with peers(town.members["a"], town.members["b"]) as (a, b):
        a.line.send("b", mail(1), payload)
        b.line.send("a", mail(2), payload[::-1])
        wait_for(lambda: a.mails() and b.mails())
        assert [(m.sender, m.head.number, m.payload == payload) for m in b.mails()] == [("a", 1, True)]
        assert [(m.sender, m.head.number, m.payload == payload[::-1]) for m in a.mails()] == [("b", 2, True)]


def test_messages_to_one_member_keep_their_order_and_a_short_one_to_another_does_not_wait(town):
    with peers(*(town.members[name] for name in "abc")) as (a, b, c):
        a.line.send("b", mail(0), bytes(1 << 24))
        for number in range(1, 50):
            a.line.send("b", mail(number), b"x")
        a.line.send("c", mail(99), b"short")
        wait_for(lambda: len(b.mails()) == 50 and c.mails())
        assert [each.head.number for each in b.mails()] == list(range(50))


def test_who_is_there_is_known_and_a_message_to_nobody_is_an_error(town):
    with peers(town.members["a"]) as (a,):
        with pytest.raises(MemberAbsent, match="'b'"):
            a.line.send("b", mail())
        with pytest.raises(MemberAbsent, match="'nobody'"):
            a.line.send("nobody", mail())
        with peers(town.members["b"]):
            a.sees("b")
            a.line.send("b", mail())
        wait_for(lambda: not a.line.members["b"].is_connected)
        assert [(head.name, head.is_connected) for head in a.heads("presence") if head.name == "b"] == [
            ("b", True),
            ("b", False),
        ]
        with pytest.raises(MemberAbsent):
            a.line.send("b", mail())


def test_a_record_for_somebody_who_just_left_is_answered_at_once(town):
    """The hub's own notice, before the list of members comes: asked for a number that never connects."""
    with peers(town.members["a"]) as (a,):
        number = town.members["dora"].number
        # As if the list of members said that the dealer is there.
        a.line._members["dora"] = a.line._members["dora"].model_copy(update={"is_connected": True})
        assert a.line._members["dora"].number == number
        a.line.send("dora", mail())
        wait_for(lambda: any(head.name == "dora" and not head.is_connected for head in a.heads("presence")))


def test_no_message_goes_out_before_the_line_is_up_or_after_it_was_closed(town):
    peer = Peer(town.members["a"])
    with pytest.raises(LineDown, match="not started"):
        peer.line.send(None, AskJob(job=JOB))
    peer.up()
    peer.line.close()
    with pytest.raises(LineDown, match="closed"):
        peer.line.send(None, AskJob(job=JOB))
    assert [state.kind for state in peer.states] == ["connecting", "up", "closed"]


def test_a_receiver_that_does_not_read_is_cut_off_and_the_others_go_on(town):
    with peers(town.members["a"], town.members["b"]) as (a, b):
        deaf = Caller(town.members["c"].hub, town.members["c"].files)
        deaf.say(HELLO)
        a.sees("c")
        most = 0
        for number in range(8):
            a.line.send("c", mail(number), bytes(1 << 22))
        b.line.send("a", mail(7), b"meanwhile")
        until = time.monotonic() + 10
        while a.line.members["c"].is_connected:
            most = max(most, town.server.bytes_kept)
            assert time.monotonic() < until
            time.sleep(0.01)
        a.line.send("b", mail(8), b"afterwards")
        wait_for(lambda: a.mails() and b.mails())
        assert [each.head.number for each in b.mails()] == [8]
        # What the hub kept for it: its queue, and one record for its one sender; b's and a's own are small.
        assert most < (1 << 18) + (1 << 17)
        assert {state.kind for state in (*a.states, *b.states)} == {"connecting", "up"}
        deaf.close()


def _closing(caller):
    address, body = caller.last_word()
    kind, reason = LINE_NOTICE.unpack(body)
    assert (address, kind) == (0xFFFF, CLOSED)
    return reason


ASK = next(encode(1, AskJob(job=JOB)))


@pytest.mark.parametrize(
    ("say", "reason"),
    [
        ([b""], MALFORMED),
        ([b"SYL1"], MALFORMED),
        ([b"SYL2" + bytes(8)], MALFORMED),
        ([ASK], MALFORMED),
        ([HELLO, HELLO], MALFORMED),
        ([HELLO, b"nonsense"], MALFORMED),
        ([HELLO, LINE_NOTICE.pack(b"?", 0)], MALFORMED),
        ([HELLO, ASK], MALFORMED),
        ([HELLO, next(encode(1, mail()))], MALFORMED),
        ([], TOO_LATE),
    ],
    ids=["empty", "cut", "version", "no hello", "replayed", "garbage", "notice", "not for a site", "mail", "silent"],
)
def test_a_member_that_breaks_the_rules_is_told_why_and_cut_off(town, say, reason):
    with peers(town.members["a"]) as (a,):
        bad = Caller(town.members["c"].hub, town.members["c"].files)
        for each in say:
            bad.say(each)
        assert _closing(bad) == reason
        assert a.line.state.kind == "up"


def test_a_record_longer_than_any_is_refused_before_it_is_read(town):
    bad = Caller(town.members["c"].hub, town.members["c"].files)
    bad.raw(b"\xff\xff\xff\x7f\xff\xff")
    assert _closing(bad) == MALFORMED


def test_a_record_to_oneself_or_of_a_researcher_to_a_site_is_refused(town):
    with peers(town.members["a"]):
        for who, to in (("c", "c"), ("rosa", "a"), ("c", "rosa")):
            bad = Caller(town.members[who].hub, town.members[who].files)
            bad.say(HELLO)
            bad.say(next(encode(1, mail())), address=town.members[to].number)
            assert _closing(bad) == MALFORMED


def test_garbage_of_a_member_is_named_and_only_its_sender_is_not_heard_any_more(town):
    with peers(town.members["a"], town.members["b"]) as (a, b):
        bad = Caller(town.members["c"].hub, town.members["c"].files)
        bad.say(HELLO)
        a.sees("c")
        number = town.members["a"].number
        bad.say(next(encode(1, mail(1))), address=number)
        for body in (b"garbage", *encode(2, mail(2)), ASK):
            bad.say(body, address=number)
        wait_for(lambda: a.heads("garbled"))
        b.line.send("a", mail(3))
        wait_for(lambda: len(a.mails()) == 2)
        assert [(each.sender, each.head.number) for each in a.mails()] == [("c", 1), ("b", 3)]
        assert [(head.name, "piece" in head.rule) for head in a.heads("garbled")] == [("c", True)]
        bad.close()
        # After it connects anew it is heard again.
        with peers(town.members["c"]) as (c,):
            c.sees("a")
            wait_for(lambda: a.line.members["c"].is_connected)
            c.line.send("a", mail(4))
            wait_for(lambda: len(a.mails()) == 3)


def test_a_member_cannot_say_what_only_the_hub_says(town):
    with peers(town.members["a"]) as (a,):
        bad = Caller(town.members["c"].hub, town.members["c"].files)
        bad.say(HELLO)
        a.sees("c")
        bad.say(ASK, address=town.members["a"].number)
        wait_for(lambda: a.heads("garbled"))
        assert not [each for each in a.received if each.sender != HUB]
        bad.close()


def test_the_newest_connection_of_a_member_is_the_one_that_lives(town):
    with peers(town.members["a"]) as (a,):
        half_open = Caller(town.members["b"].hub, town.members["b"].files)
        half_open.say(HELLO)
        a.sees("b")
        half_open.say(next(encode(1, mail(1), bytes(1 << 17))), address=town.members["a"].number)
        with peers(town.members["b"]) as (b,):
            b.sees("a")
            a.sees("b")
            b.line.send("a", mail(2), bytes(1 << 17))
            wait_for(a.mails)
        assert [each.head.number for each in a.mails()] == [2]
        half_open.close()


def test_a_silent_member_is_cut_off_and_one_that_only_beats_is_not(town):
    silent = Caller(town.members["b"].hub, town.members["b"].files)
    silent.say(HELLO)
    began = time.monotonic()
    with peers(town.members["a"]) as (a,):
        a.sees("b")
        wait_for(lambda: not a.line.members["b"].is_connected)
        assert time.monotonic() - began > 1
        time.sleep(0.3)
        assert {state.kind for state in a.states} == {"connecting", "up"}
    silent.close()


def test_without_a_certificate_nothing_but_an_invitation_is_read(town):
    for body in (HELLO, b"SYR1" + bytes(36)):
        stranger = Caller(town.members["a"].hub)
        stranger.say(body)
        assert _closing(stranger) == NO_CERTIFICATE


def test_the_hub_is_known_by_its_certificate(town):
    enrolled = town.members["a"]
    wrong = HubAddress(enrolled.hub.host, enrolled.hub.port, bytes(32))
    peer = Peer(type(enrolled)(**{**_fields(enrolled), "hub": wrong}))
    peer.line.start()
    wait_for(lambda: peer.line.state.kind == "refused")
    assert "another certificate" in peer.line.state.reason
    peer.line.close()


def _fields(enrolled):
    return {name: getattr(enrolled, name) for name in enrolled.__slots__}


def test_a_revoked_member_is_cut_off_and_stays_out(town):
    gone = join(town.files, town.path, "gone")
    with peers(town.members["a"], gone) as (a, member):
        store = town.files.store()
        store.revoke("gone", now=time.time())
        store.close()
        wait_for(lambda: member.line.state.kind == "refused")
        wait_for(lambda: not a.line.members["gone"].is_connected)
        caller = Caller(gone.hub, gone.files)
        caller.say(HELLO)
        assert _closing(caller) == NOT_A_MEMBER
        assert "revoked" in CLOSING_REASONS[NOT_A_MEMBER]


def test_what_the_user_of_a_line_gets_wrong_does_not_end_it(town):
    calls = []

    def fail_once(message):
        if message.head.kind == "mail":
            calls.append(message)
            if len(calls) == 1:
                raise KeyError("Mr Smith")

    with peers(town.members["b"]) as (b,):
        a = Peer(town.members["a"], on_message=fail_once).up()
        b.sees("a")
        b.line.send("a", mail(1))
        wait_for(lambda: any(state.kind == "down" for state in a.states))
        assert not any("Smith" in state.reason for state in a.states)
        a.line.wait_until_up(5)
        wait_for(lambda: len([h for h in b.heads("presence") if h.name == "a" and h.is_connected]) == 2)
        b.line.send("a", mail(2))
        wait_for(lambda: len(calls) == 2)
        a.line.close()
    assert IMPATIENT.first_pause_seconds < 1
