"""Orders at the agents' doors keep the contract of networks; and who goes away takes its site out."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from door_members import DoorFederation, Doors
from network_contract import NetworkContract
from network_members import SITES, Researcher, small_study

from privacy.ledger import load_key, open_ledger
from synthema.agent import orders as agent_orders
from synthema.agent.door import Door
from synthema.agent.service import SiteService
from synthema.errors import SiteFailed, SiteRefused, StudyError
from synthema.flower.client import SOCKET_VARIABLE
from synthema.job import SiteJob
from synthema.networks.ordered import Enough
from synthema.networks.orders import Answer, Order, OrderRejected
from synthema.networks.site_socket import ask, send


@pytest.mark.slow
class TestDoors(NetworkContract):
    """The contract, over orders."""

    @pytest.fixture
    def federation(self, tmp_path: Path) -> Iterator[Any]:
        found = DoorFederation(tmp_path)
        found.begin()
        yield found
        found.close()


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[DoorFederation]:
    found = DoorFederation(tmp_path)
    found.begin()
    yield found
    found.close()


def _answer(federation: DoorFederation, site: str, order: Order, payload: bytes = b"") -> Answer:
    return Answer.decode(ask(str(federation.socket(site)), order.encode(payload), within=30.0))[0]


def _offered(federation: DoorFederation, **fields: Any) -> Any:
    """Offer a study to vienna alone; return the submission."""
    submission = federation.desk.submission(small_study())
    order = Order(what="offer", job=submission.job_id, within=10.0, **fields)
    assert _answer(federation, "vienna", order, submission.encode()).state == "accepted"
    return submission


def _open_charges(federation: DoorFederation, site: str) -> tuple[str, ...]:
    federation.services[site].agent.wait_until_idle(within=10.0)
    config = federation.config(site)
    with open_ledger(config.ledger_url, site=site, signer=load_key(config.place(config.keys.ledger))) as ledger:
        return ledger.open_charges()


class _GoesAway(Doors):
    """Closes milan's connection in the middle of the run, as a carrier that is killed does."""

    def __init__(self, paths: Mapping[str, Path], when: threading.Event) -> None:
        super().__init__(paths)
        self.when = when

    def exchange(self, orders: Mapping[str, bytes], *, within: float, enough: Enough) -> Mapping[str, bytes]:
        order, _ = Order.decode(orders["milan"]) if "milan" in orders else (None, b"")
        if order is None or order.what != "run":
            return super().exchange(orders, within=within, enough=enough)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.paths["milan"]))
        send(connection, orders["milan"])

        def go() -> None:
            self.when.wait(20.0)
            connection.close()

        threading.Thread(target=go, daemon=True).start()
        rest = {site: order for site, order in orders.items() if site != "milan"}
        return super().exchange(rest, within=within, enough=enough)


def test_a_carrier_that_goes_away_in_a_run_takes_its_site_out_at_once_and_names_it(
    federation: DoorFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting, count = threading.Event(), SiteJob.marginal_counts

    def slow_at_vienna(job: SiteJob) -> Any:
        if job.site.name == "vienna":
            # Milan has begun, and waits for vienna's shares when it is left alone.
            counting.set()
            time.sleep(1.0)
        return count(job)

    monkeypatch.setattr(SiteJob, "marginal_counts", slow_at_vienna)
    doors = federation.network._carrier
    federation.network._carrier = _GoesAway(doors.paths, counting)
    began = time.monotonic()
    with pytest.raises(SiteFailed) as failed:
        federation.run(small_study())
    assert failed.value.site == "milan"
    assert "went away" in failed.value.error
    # Long before anybody gives up waiting: 8 s for a contribution.
    assert time.monotonic() - began < 7.0
    for site in SITES:
        assert _open_charges(federation, site) == ()
    assert len(set(federation.spent().values()) - {0.0}) == 1
    # The same agents go on.
    monkeypatch.undo()
    federation.network._carrier = doors
    assert federation.run(small_study("pilot-2"))["synthetic"]


@pytest.mark.slow
def test_a_site_whose_carrier_never_starts_it_is_named_and_nothing_is_charged(
    federation: DoorFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_orders, "_BRING_SECONDS", 1.0)

    class Loses(Doors):
        def exchange(self, orders: Mapping[str, bytes], *, within: float, enough: Enough) -> Mapping[str, bytes]:
            runs = Order.decode(next(iter(orders.values())))[0].what == "run"
            kept = {site: order for site, order in orders.items() if not (runs and site == "milan")}
            return super().exchange(kept, within=within, enough=enough)

    federation.network._carrier = Loses(federation.network._carrier.paths)
    with pytest.raises(SiteFailed) as failed:
        federation.run(small_study())
    assert (failed.value.site, failed.value.step) == ("milan", "start")
    assert set(federation.spent().values()) == {0.0}
    assert [_open_charges(federation, site) for site in SITES] == [(), (), ()]


@pytest.mark.slow
def test_an_offer_that_nobody_starts_is_void_when_its_time_is_over(federation: DoorFederation) -> None:
    submission = _offered(federation, run_seconds=0.1)
    assert _open_charges(federation, "vienna") != ()
    job = federation.services["vienna"]._orders._jobs[submission.job_id]
    job.stands_until = 0.0
    federation.services["vienna"]._take_approvals()
    assert _open_charges(federation, "vienna") == ()
    run = Order(what="run", job=submission.job_id, within=5.0)
    assert _answer(federation, "vienna", run).state == "failed"
    assert federation.spent()["vienna"] == 0.0


@pytest.mark.slow
def test_an_agent_that_is_started_again_gives_back_what_was_offered_at_its_door(federation: DoorFederation) -> None:
    _offered(federation)
    federation.services["vienna"].close()
    service = SiteService(federation.config("vienna"), approval=federation.operators["vienna"])
    federation.services["vienna"] = service
    service.begin()
    service.line.wait_until_up(10.0)
    assert _open_charges(federation, "vienna") == ()
    assert service._memory.unfinished() == []


@pytest.mark.slow
def test_a_carrier_cannot_run_what_was_not_accepted_nor_run_it_twice(federation: DoorFederation) -> None:
    submission = federation.desk.submission(small_study())
    run = Order(what="run", job=submission.job_id, within=3.0)
    assert _answer(federation, "vienna", run).state == "failed"
    _offered(federation)
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(_answer(federation, "vienna", run)), daemon=True)
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)
    # One is told at once; the other waits for the other sites, who never come.
    assert [answer.state for answer in answers] == ["failed", "failed"]
    assert "has not accepted" in answers[0].explanation
    assert federation.spent()["vienna"] == 0.0


def test_what_a_carrier_changes_or_makes_up_is_refused(federation: DoorFederation) -> None:
    submission = federation.desk.submission(small_study())
    data = submission.encode()
    other = Researcher().submission(small_study("other"))
    forged = data.replace(submission.result_key.hex().encode(), other.result_key.hex().encode())
    for job, payload in (
        (submission.job_id, forged),
        (submission.job_id, other.encode()),
        (submission.job_id, data.replace(b"a test of networks", b"a test of burglars")),
        (submission.job_id, b"nonsense"),
    ):
        answer = _answer(federation, "vienna", Order(what="offer", job=job, within=5.0), payload)
        assert (answer.state, answer.reason) == ("refused", "document")
    assert federation.spent()["vienna"] == 0.0


@pytest.mark.slow
def test_the_hub_gets_no_result_and_the_carrier_none_that_it_can_read(federation: DoorFederation) -> None:
    result = federation.run(small_study())
    # Who is not the lead answers when the hub has heard that the job is done.
    store = federation.hub_folder.store()
    try:
        (job,) = store.jobs()
        assert (job.phase, store.result(job.job_id)) == ("done", b"")
    finally:
        store.close()
    carried = b"".join(federation.network._carrier.carried)
    first = result["synthetic"].splitlines()[0].encode()
    assert first not in carried
    assert b"noisy_counts" not in carried
    assert len(carried) > 1000


def test_a_node_that_answers_for_another_site_is_refused(federation: DoorFederation) -> None:
    paths = {site: federation.socket(site) for site in SITES}
    federation.network._carrier = Doors(paths | {"madrid": paths["milan"]})
    with pytest.raises(SiteRefused, match="answers for 'milan'") as refused:
        federation.run(small_study())
    assert refused.value.site == "madrid"
    assert set(federation.spent().values()) == {0.0}


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xff\xff\xff", b"\x02\x00\x00\x00{}", Order(what="run", job="0" * 64, within=1.0).encode()[:-1]],
)
def test_what_is_no_order_is_no_order(data: bytes) -> None:
    with pytest.raises(OrderRejected):
        Order.decode(data)


def test_a_door_is_for_its_user_alone_and_outlives_nonsense(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = Path("/tmp") / f"door-{threading.get_native_id()}"
    door = Door(place, lambda _order, payload, _is_gone: (Answer(site="vienna", state="cancelled"), payload))
    try:
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(place))
            # 2^60 bytes are announced: nothing is kept, the connection ends.
            caller.sendall((1 << 60).to_bytes(8, "little"))
            caller.settimeout(5.0)
            assert caller.recv(1) == b""
        order = Order(what="cancel", job="0" * 64, within=1.0)
        assert Answer.decode(ask(str(place), order.encode(b"payload"), within=5.0))[1] == b"payload"
    finally:
        door.close()
    assert not place.exists()
    file = tmp_path_factory.mktemp("door") / "f"
    file.write_text("a file of somebody's")
    with pytest.raises(StudyError, match="is no socket"):
        Door(file, lambda *_: (Answer(site="", state="down"), b""))
    assert file.read_text() == "a file of somebody's"
    with pytest.raises(StudyError, match="cannot be made"):
        Door(Path("/tmp/there-is-no-such-folder/door"), lambda *_: (Answer(site="", state="down"), b""))
    with pytest.raises(StudyError, match="cannot be given to"):
        Door(place, lambda *_: (Answer(site="", state="down"), b""), group="no-such-group")
    place.unlink()
    with pytest.raises(StudyError, match="at most"):
        Door(tmp_path_factory.mktemp("door") / ("d" * 120), lambda *_: (Answer(site="", state="down"), b""))


@pytest.mark.slow
def test_the_same_study_may_be_handed_in_again_at_once(federation: DoorFederation) -> None:
    results = [federation.run(small_study())["released"]["synthetic"]["columns"] for _ in range(6)]
    assert all(result == results[0] for result in results)
    assert len(set(federation.spent().values())) == 1


@pytest.mark.slow
def test_a_carrier_cannot_take_back_what_the_hub_offered(
    federation: DoorFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, count = small_study(), SiteJob.marginal_counts
    job_id = federation.desk.submission(study).job_id
    answers: list[Answer] = []

    def is_cancelled_meanwhile(job: SiteJob) -> Any:
        if job.site.name == "vienna":
            cancel = Order(what="cancel", job=job_id, within=5.0)
            answers.append(_answer(federation, "vienna", cancel))
            offer = Order(what="offer", job=job_id, within=5.0)
            answers.append(_answer(federation, "vienna", offer, federation.desk.submission(study).encode()))
        return count(job)

    monkeypatch.setattr(SiteJob, "marginal_counts", is_cancelled_meanwhile)
    assert federation.desk.submit(study, decide_seconds=10.0, run_seconds=30.0)["synthetic"]
    assert [(answer.state, answer.reason) for answer in answers] == [("cancelled", ""), ("refused", "running")]


@pytest.mark.slow
def test_without_a_hub_a_run_ends_soon_and_nothing_is_charged(
    federation: DoorFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_orders, "_BRING_SECONDS", 0.5)
    monkeypatch.setattr(agent_orders, "_HUB_SECONDS", 0.5)
    submission = _offered(federation)
    assert federation.hub is not None
    federation.hub.stop()
    federation._hub_thread.join(10)
    federation.hub = None
    began = time.monotonic()
    answer = _answer(federation, "vienna", Order(what="run", job=submission.job_id, within=60.0))
    assert (answer.state, answer.blamed) == ("failed", "vienna")
    assert "hub did not start" in answer.explanation
    assert time.monotonic() - began < 10.0
    assert _open_charges(federation, "vienna") == ()
    assert federation.spent()["vienna"] == 0.0


def test_a_client_whose_parent_is_gone_leaves_the_agent_alone() -> None:
    place = Path("/tmp") / f"door-{threading.get_native_id()}"
    gone = threading.Event()

    def waits(_order: Order, _payload: bytes, is_gone: Any) -> tuple[Answer, bytes]:
        deadline = time.monotonic() + 30.0
        while not is_gone() and time.monotonic() < deadline:
            time.sleep(0.02)
        gone.set()
        return Answer(site="vienna", state="down"), b""

    door = Door(place, waits)
    order = Order(what="run", job="0" * 64, within=30.0).encode()
    client = f"from synthema.flower.client import answer_to; answer_to({order!r})"
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {client!r}]); time.sleep(60)"
    # Nobody waits for the client: it must write nothing where somebody clears up.
    own = {SOCKET_VARIABLE: str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen([sys.executable, "-c", parent], env={**os.environ, **own})
    try:
        # The client has connected, and waits for an answer.
        deadline = time.monotonic() + 30.0
        while door._places._value == 16 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        assert not gone.is_set()
        process.kill()
        assert gone.wait(10.0)
    finally:
        process.kill()
        process.wait(10)
        door.close()
