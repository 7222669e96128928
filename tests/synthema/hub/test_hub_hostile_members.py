"""Members that say of themselves what cannot be: the hub goes on for everybody else."""

import pytest
from hubs import Caller, Peer, RunningHub, join, new_folder, study, submission, wait_for

from synthema.networks.line_wire import CLOSED, HANDLED, LINE_HELLO, LINE_MAGIC, LINE_NOTICE, MALFORMED, line_notice

CLOSED_FOR_THAT = LINE_NOTICE.pack(CLOSED, MALFORMED)


@pytest.fixture
def village(tmp_path):
    """A hub of its own: these members may break it."""
    files = new_folder(tmp_path / "hub")
    with RunningHub(files) as running:
        running.members = {name: join(files, tmp_path, name) for name in ("a", "b")}
        running.members["rosa"] = join(files, tmp_path, "rosa", "researcher")
        yield running


@pytest.mark.parametrize("handled", [2**64 - 1, 2**63 - 1, 2**63, 2**53 - 1, 2**52])
def test_a_member_that_claims_to_have_handled_more_than_a_hub_ever_sends_is_cut_off(village, handled):
    a = village.members["a"]
    caller = Caller(a.hub, a.files)
    caller.say(LINE_HELLO.pack(LINE_MAGIC, handled))
    assert caller.last_word()[1] == CLOSED_FOR_THAT
    # The hub still has its desk, and the member is offered what comes next.
    good, rosa = Peer(a).up(), Peer(village.members["rosa"]).up()
    document = study("{}")
    rosa.line.send(None, submission(document, ["a", "b"]), document)
    wait_for(lambda: good.heads("offer"))
    good.line.close()
    rosa.line.close()
    assert village.hub._desk.failure is None


def test_a_member_whose_hub_was_restored_from_a_backup_is_ahead_and_heard(village):
    good = Peer(village.members["a"], handled=2**40).up()
    rosa = Peer(village.members["rosa"]).up()
    document = study("{}")
    rosa.line.send(None, submission(document, ["a", "b"]), document)
    wait_for(lambda: good.heads("offer"))
    assert good.line.handled == 2**40 + 1
    good.line.close()
    rosa.line.close()


def test_a_number_that_was_never_sent_is_not_handled(village):
    a = village.members["a"]
    caller = Caller(a.hub, a.files)
    caller.say(LINE_HELLO.pack(LINE_MAGIC, 0))
    caller.say(line_notice(HANDLED, 2**64 - 1))
    caller.close()
    good = Peer(a).up()
    good.line.close()
    assert village.hub._desk.failure is None
