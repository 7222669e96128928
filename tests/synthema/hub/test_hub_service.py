"""Jobs through a real hub; seats of the relay; a hub that is killed at any moment and comes back."""

import hashlib
import json
import resource
import sqlite3
import threading
import time

import numpy as np
import pytest
from hubs import HubProcess, Peer, RunningHub, join, new_folder, peers, study, submission, wait_for
from typer.testing import CliRunner

from smpc import ProtocolAbort, SmpcError
from smpc.transport import Frame, Identity, Member, RelayTransport, Roster
from synthema.cli.app import app
from synthema.hub.hub import allow_files
from synthema.hub.jobs import Send
from synthema.hub.server import HubLimits
from synthema.messages import DECISION_LIST, AskJob, Cancel, Decision, Outcome, Status


def answer(peer, kind="offer", **fields):
    """Return the site's decision about its last offer."""
    offer = peer.heads(kind)[-1]
    return Decision(job=offer.job, attempt=offer.attempt, **{"decision": "accepted", **fields})


def states(peer, job):
    return [head for head in peer.heads("state") if head.job == job]


def submit(researcher, document, sites, **options):
    head = submission(document, sites, **options)
    researcher.line.send(None, head, document)
    wait_for(lambda: states(researcher, head.job))
    return head.job


def start(researcher, sites, document, *, dealer=None, **options):
    named = None if dealer is None else dealer.name
    job = submit(researcher, document, [site.name for site in sites], dealer=named, **options)
    sites = [*sites, *([] if dealer is None else [dealer])]
    for site in sites:
        wait_for(lambda site=site: any(head.job == job for head in site.heads("offer")))
        site.line.send(None, answer(site))
    for site in sites:
        wait_for(lambda site=site: any(head.job == job for head in site.heads("start")))
    return job


def test_a_job_from_submission_to_result_which_only_its_researcher_sees(town):
    members = [town.members[name] for name in ("a", "b", "c", "dora", "rosa", "otto")]
    with peers(*members) as (a, b, c, dora, rosa, otto):
        document = study("one")
        job = start(rosa, [a, b, c], document, dealer=dora)
        offers = [each for each in a.received if each.head.kind == "offer"]
        assert [each.payload for each in offers] == [document]
        assert offers[0].sequence > 0
        a.line.send(None, Status(job=job, attempt=1, step="marginals"))
        wait_for(lambda: "marginals" in rosa.received[-1].payload.decode())
        result = bytes(range(256)) * 1000
        a.line.send(None, Outcome(job=job, attempt=1, state="done"), result)
        wait_for(lambda: states(rosa, job)[-1].state == "done" and b.heads("outcome") and dora.heads("outcome"))
        rosa.line.send(None, AskJob(job=job, with_result=True))
        wait_for(lambda: states(rosa, job)[-1].content == "result")
        assert rosa.received[-1].payload == result
        for what in (AskJob(job=job, with_result=True), Cancel(job=job, attempt=1)):
            otto.line.send(None, what)
        wait_for(lambda: len(otto.heads("refused")) == 2)
        assert {head.reason for head in otto.heads("refused")} == {"unknown-job"}
        assert states(otto, job) == []


def test_a_refusal_reaches_the_researcher_with_its_reason_and_the_others_as_a_cancellation(town):
    with peers(*(town.members[name] for name in ("a", "b", "rosa"))) as (a, b, rosa):
        job = submit(rosa, study("two"), ["a", "b"], parties=[])
        wait_for(lambda: a.heads("offer") and b.heads("offer"))
        a.line.send(None, answer(a, decision="waiting"))
        wait_for(lambda: "waiting" in rosa.received[-1].payload.decode())
        b.line.send(None, answer(b, decision="refused", reason="budget", explanation="nothing is left"))
        wait_for(lambda: states(rosa, job)[-1].state == "refused" and a.heads("cancel"))
        last = states(rosa, job)[-1]
        assert (last.site, last.error, last.explanation) == ("b", "budget", "nothing is left")
        said = {each.site: each.decision for each in DECISION_LIST.validate_json(rosa.received[-1].payload)}
        assert said == {"a": "waiting", "b": "refused"}


def test_what_cannot_be_submitted_is_refused_with_a_reason(town):
    with peers(town.members["rosa"]) as (rosa,):
        for document, head in (
            (study("x"), submission(study("x"), ["a", "nobody"], parties=[])),
            (study("other"), submission(study("x"), ["a"], parties=[])),
            (b"no study", submission(study("x"), ["a"], parties=[])),
            (bytes(5 << 20), submission(study("x"), ["a"], parties=[])),
        ):
            rosa.line.send(None, head, document)
        wait_for(lambda: len(rosa.heads("refused")) == 4)
        assert [head.reason for head in rosa.heads("refused")] == [
            "unknown-site",
            "other-document",
            "malformed",
            "too-large",
        ]
        assert rosa.line.state.kind == "up"


def test_a_deadline_ends_a_job_with_the_name_of_the_site(town):
    with peers(*(town.members[name] for name in ("a", "rosa"))) as (a, rosa):
        job = submit(rosa, study("three"), ["a", "b"], parties=[], decide_seconds=0.5)
        wait_for(lambda: a.heads("offer"))
        a.line.send(None, answer(a))
        wait_for(lambda: states(rosa, job)[-1].state == "failed")
        assert (states(rosa, job)[-1].error, states(rosa, job)[-1].site) == ("no-decision", "b")


def seat(town, name, party, roster, run):
    enrolled = town.members[name]
    return RelayTransport.connect(
        roster,
        Identity.load(party, enrolled.files.identity),
        run=run,
        relay=(enrolled.hub.host, enrolled.hub.port),
        relay_fingerprint=enrolled.hub.fingerprint,
        tls=enrolled.files.tls(),
        within=5.0,
    )


def together(calls):
    results = [None] * len(calls)

    def call(i):
        try:
            results[i] = calls[i]()
        except SmpcError as error:
            results[i] = error

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(calls))]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    return results


def one_round(transport, words):
    others = frozenset(range(transport.n_parties)) - {transport.party}
    frame = Frame(transport.session_id, b"exchange", 0, transport.party, words)
    try:
        transport.exchange(dict.fromkeys(others, frame), others, within=5).send(None)
    except StopIteration as done:
        return {peer: got.payload.tolist() for peer, got in done.value.items()}


def test_seats_are_given_while_a_job_runs_to_its_parties_and_dealer_only(town):
    names = ("a", "b", "c", "dora", "rosa")
    with peers(*(town.members[name] for name in names)) as (a, b, c, dora, rosa):
        job = start(rosa, [a, b, c], study("four"), parties=["a", "b"], dealer=dora)

        def roster(*of):
            return Roster(tuple(Member(name, town.members[name].public) for name in of))

        ab, run = roster("a", "b"), f"{job}/1/mpc"
        two = together([lambda: seat(town, "a", 0, ab, run), lambda: seat(town, "b", 1, ab, run)])
        words = [np.arange(4, dtype=np.uint64) + i for i in range(2)]
        got = together([lambda i=i: one_round(two[i], words[i]) for i in range(2)])
        assert got == [{1: [1, 2, 3, 4]}, {0: [0, 1, 2, 3]}]
        da = roster("dora", "a")
        dealt = together(
            [lambda: seat(town, "dora", 0, da, f"{job}/1/deal/0"), lambda: seat(town, "a", 1, da, f"{job}/1/deal/0")]
        )
        for each in (*two, *dealt):
            each.close()
        cb, ca = roster("c", "b"), roster("c", "a")
        wrong = [
            lambda: seat(town, "c", 0, cb, run),
            lambda: seat(town, "c", 0, ca, f"{job}/1/deal/0"),
            lambda: seat(town, "a", 0, ab, f"{job}/2/mpc"),
            lambda: seat(town, "a", 0, ab, "another run"),
        ]
        for each in together(wrong):
            assert isinstance(each, ProtocolAbort)
            assert "not listed for this seat" in str(each)
        rosa.line.send(None, Cancel(job=job, attempt=1))
        wait_for(lambda: a.heads("cancel"))
        (late,) = together([lambda: seat(town, "a", 0, ab, run)])
        assert isinstance(late, ProtocolAbort)


def test_what_the_hub_owes_a_member_that_is_away_arrives_once_when_it_comes(town):
    with peers(*(town.members[name] for name in ("a", "rosa"))) as (a, rosa):
        job = submit(rosa, study("five"), ["a", "b"], parties=[])
        wait_for(lambda: a.heads("offer"))
        with peers(town.members["b"]) as (b,):
            wait_for(lambda: any(head.job == job for head in b.heads("offer")))
            handled = b.line.handled
        # It handled the offer: it does not come again, also to a process that starts anew; a fresh word does.
        with peers(town.members["b"]) as (b,):
            a.line.send(None, answer(a, decision="refused"))
            wait_for(lambda: b.heads("cancel"))
            assert b.heads("offer") == []
            assert b.line.handled > handled


def test_a_message_that_was_not_handled_comes_again(town):
    seen = []

    def fail_first(message):
        if message.head.kind == "offer":
            seen.append(message.sequence)
            if len(seen) == 1:
                raise OSError("the disk is full")

    with peers(town.members["rosa"]) as (rosa,):
        c = Peer(town.members["c"], on_message=fail_first).up()
        submit(rosa, study("six"), ["c"], parties=[])
        wait_for(lambda: len(seen) == 2)
        assert seen[0] == seen[1]
        c.line.close()


def test_numbers_go_on_from_the_member_when_the_hub_lost_some(tmp_path):
    """A store restored from a backup is behind its members: nothing new may fall under a number that was handled."""
    files = new_folder(tmp_path / "hub")
    with RunningHub(files):
        a = join(files, tmp_path, "a")
    store = files.store()
    store.enqueue(a.number, Send("a", Cancel(job="0" * 64, attempt=1, reason="old")))
    store.close()
    with RunningHub(files):
        peer = Peer(a, handled=41).up()
        wait_for(lambda: peer.heads("cancel"))
        assert [each.sequence for each in peer.received if each.head.kind == "cancel"] == [42]
        wait_for(lambda: _unhandled(files) == 0)
        peer.line.close()


def _unhandled(files):
    with sqlite3.connect(files.folder / "hub.sqlite") as db:
        n = db.execute("SELECT count(*) FROM outbox").fetchone()[0]
    db.close()
    return n


@pytest.mark.slow
def test_a_killed_hub_comes_back_with_its_jobs_and_every_message_arrives_once(tmp_path):
    files = new_folder(tmp_path / "hub")
    with HubProcess(files) as hub:
        a, b = (join(files, tmp_path, name) for name in "ab")
        rosa = join(files, tmp_path, "rosa", "researcher")
        with peers(a, rosa) as (site, researcher):
            ids = []
            for number in range(12):
                document = study(str(number))
                head = submission(document, ["a", "b"], parties=[])
                researcher.line.send(None, head, document)
                ids.append(head.job)
                if number % 4 == 3:
                    hub.kill()
                    wait_for(lambda: "up" not in {site.line.state.kind, researcher.line.state.kind})
                    hub.start()
                    site.line.wait_until_up(20)
                    researcher.line.wait_until_up(20)
            wait_for(lambda: len(site.heads("offer")) >= len(ids), within=20)
            time.sleep(0.3)
            assert sorted(head.job for head in site.heads("offer")) == sorted(ids)
            assert len({each.sequence for each in site.received if each.head.kind == "offer"}) == len(ids)
            # Who was away all the time gets all of it, once.
            with peers(b) as (late,):
                wait_for(lambda: len(late.heads("offer")) >= len(ids))
                assert sorted(head.job for head in late.heads("offer")) == sorted(ids)
                # One job runs on over a kill, and ends.
                job = ids[0]
                for each in (site, late):
                    each.line.send(None, Decision(job=job, attempt=1, decision="accepted"))
                wait_for(lambda: site.heads("start") and late.heads("start"))
                hub.kill()
                wait_for(lambda: "up" not in {site.line.state.kind, researcher.line.state.kind})
                hub.start()
                site.line.wait_until_up(20)
                site.line.send(None, Outcome(job=job, attempt=1, state="done"), b"the result")
                researcher.line.wait_until_up(20)

                def has_result():
                    # The site's word and the question come over two lines: asked too early, it is not done yet.
                    researcher.line.send(None, AskJob(job=job, with_result=True))
                    time.sleep(0.1)
                    return any(head.content == "result" for head in researcher.heads("state"))

                wait_for(has_result)
                assert len(site.heads("start")) == len(late.heads("start")) == 1


def test_two_processes_do_not_serve_one_folder(town):
    with pytest.raises(ValueError, match="another process"):
        town.files.open()


def test_a_process_takes_no_more_connections_than_it_may_have_files(monkeypatch):
    asked = []
    monkeypatch.setattr(resource, "setrlimit", lambda _what, both: asked.append(both))
    for soft, hard, most in ((1024, 1 << 20, 4096), (1024, 2000, 1936), (1 << 20, 1 << 20, 4096)):
        monkeypatch.setattr(resource, "getrlimit", lambda _what, both=(soft, hard): both)
        assert allow_files(HubLimits()).max_connections == most
    assert asked == [(4160, 1 << 20), (2000, 2000)]


def test_an_operator_sees_members_and_jobs_invites_and_revokes(tmp_path):
    run = CliRunner()

    def json_of(*arguments, code=0):
        result = run.invoke(app, [*map(str, arguments), "--json"])
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    folder = tmp_path / "hub"
    made = json_of("hub", "init", folder, "--name", "h", "--listen", "127.0.0.1:7443", "--public", "hub.example:443")
    assert len(made["fingerprint"]) == 64
    assert json_of("hub", "init", folder, "--name", "h", "--listen", "127.0.0.1:7443", code=2)["error"] == "ValueError"
    invitation = json_of("hub", "invite", "vienna", "--role", "site", "--config", folder)["invitation"]
    from synthema.enrolling import Invitation

    parsed = Invitation.parse(invitation)
    assert (parsed.host, parsed.port, parsed.fingerprint) == ("hub.example", 443, made["fingerprint"])
    for wrong in (["Vienna"], ["vienna", "--role", "king"]):
        assert json_of("hub", "invite", *wrong, "--config", folder, code=2)["exit_code"] == 2
    assert json_of("hub", "members", "--config", folder) == []
    assert json_of("hub", "jobs", "--config", folder) == []
    assert json_of("hub", "revoke", "vienna", "--config", folder, code=2)["error"] == "ValueError"
    text = run.invoke(app, ["hub", "members", "--config", str(folder)])
    assert "no members yet" in text.stdout


def test_the_operator_sees_what_is_there(town):
    result = CliRunner().invoke(app, ["hub", "members", "--config", str(town.files.folder), "--json"])
    assert {"a", "b", "c", "dora", "rosa", "otto"} <= {each["name"] for each in json.loads(result.stdout)}
    listed = CliRunner().invoke(app, ["hub", "jobs", "--config", str(town.files.folder), "--json"])
    assert all(len(each["job"]) == 64 for each in json.loads(listed.stdout))


def test_mail_leaves_nothing_in_the_hubs_file(town):
    marker = hashlib.sha256(b"a patient").digest() * 100
    from test_hub_lines import mail

    with peers(town.members["a"], town.members["b"]) as (a, b):
        a.line.send("b", mail(), marker)
        wait_for(b.mails)
    for path in town.files.folder.glob("hub.sqlite*"):
        assert marker[:16] not in path.read_bytes()
