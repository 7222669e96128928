"""A hub that keeps all it carries, and one that changes it: it finds nothing, and nothing it changed is opened."""

import secrets

import pytest
from hubs import peers, wait_for
from test_hub_lines import mail

from smpc.transport.roster import Identity
from synthema.errors import MailRejected
from synthema.networks.mail import Mailroom

JOB = "ab" * 32
SECRET = b"shares of Mr Smith, " + secrets.token_bytes(180)


@pytest.fixture
def seen(town, monkeypatch):
    """All bodies that the hub carries from line to line; `change` may falsify them."""
    bodies = []
    town.change = lambda body: body
    forward = type(town.server)._forward

    def spy(server, connection, member, address, body):
        bodies.append(bytes(body))
        forward(server, connection, member, address, memoryview(town.change(bytes(body))))

    monkeypatch.setattr(type(town.server), "_forward", spy)
    return bodies


def mailrooms(town):
    identities = {name: Identity.load(0, town.members[name].files.identity) for name in "ab"}
    public = {name: each.public for name, each in identities.items()}
    return [Mailroom(name, identities[name], public, job_id=JOB, attempt=1) for name in "ab"]


def greeted(town, a, b):
    rooms = mailrooms(town)
    a.line.send("b", mail(0, "hello"), rooms[0].hello)
    b.line.send("a", mail(0, "hello"), rooms[1].hello)
    wait_for(lambda: a.mails() and b.mails())
    rooms[0].greet("b", a.mails()[0].payload)
    rooms[1].greet("a", b.mails()[0].payload)
    return rooms


def windows(data):
    return {data[i : i + 8] for i in range(len(data) - 7)}


def test_the_hub_carries_nothing_that_it_can_read(town, seen):
    with peers(town.members["a"], town.members["b"]) as (a, b):
        sender, receiver = greeted(town, a, b)
        letters = [sender.seal("b", "shares", SECRET * 500) for _ in range(2)]
        for number, letter in letters:
            a.line.send("b", mail(number), letter)
        wait_for(lambda: len(b.mails()) == 3)
        assert [receiver.open("a", "shares", m.head.number, m.payload) for m in b.mails()[1:]] == [SECRET * 500] * 2
        carried = b"".join(seen)
        assert len(carried) > 2 * len(SECRET) * 500
        known = windows(SECRET)
        assert not any(carried[i : i + 8] in known for i in range(len(carried) - 7))
        # Nor does it see that both letters say the same.
        assert letters[0][1][:-16] != letters[1][1][:-16]
        # The control: unsealed, it is found.
        a.line.send("b", mail(9), SECRET)
        wait_for(lambda: len(b.mails()) == 4)
        assert SECRET in b"".join(seen)


def test_a_letter_that_the_hub_changes_is_not_opened_and_names_its_sender(town, seen):
    with peers(town.members["a"], town.members["b"]) as (a, b):
        sender, receiver = greeted(town, a, b)
        number, letter = sender.seal("b", "shares", SECRET)
        town.change = lambda body: body[:-20] + bytes([body[-20] ^ 1]) + body[-19:]
        a.line.send("b", mail(number), letter)
        wait_for(lambda: len(b.mails()) == 2)
        with pytest.raises(MailRejected) as caught:
            receiver.open("a", "shares", number, b.mails()[1].payload)
        assert "'a'" in str(caught.value)
        assert b"Smith" not in str(caught.value).encode()
        # The control: as it was sealed, it opens.
        assert receiver.open("a", "shares", number, letter) == SECRET
    assert seen
