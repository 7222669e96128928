"""The dealer as a member: it serves the runs that it may, over a real relay, and says no to all others."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from smpc import RING64
from smpc.errors import DealerNotSeparate, DealerUnavailable
from smpc.kinds import Product
from smpc.remote_material import remote_material
from smpc.sealed_files import new_sealing_key
from smpc.transport import (
    Identity,
    Member,
    Relay,
    RelayTransport,
    Roster,
    TlsFiles,
    certificate_fingerprint,
    new_certificate_files,
    new_identity_file,
)
from synthema.dealer_config import DealerService
from synthema.dealer_member import DealerMember
from synthema.errors import StudyError
from synthema.messages import Cancel, Decision, Message, Offer, Outcome, Start
from synthema.signing import SignedDocument
from synthema.submission import Submission

SITES = ("vienna", "graz", "linz")
JOB = "ab" * 32
FAR = 1e10


class World:
    """Keys of a dealer and three sites, and a relay that all may join."""

    def __init__(self, folder):
        self.folder = folder
        names = ("dealer", *SITES, "relay")
        for name in names:
            new_certificate_files(name, folder / f"{name}.crt", folder / f"{name}.tls")
            new_identity_file(folder / f"{name}.key")
        self.keys = {name: Identity.load(0, folder / f"{name}.key") for name in names}
        seats = {certificate_fingerprint(folder / f"{n}.crt"): frozenset(range(5)) for n in names}
        trusted = tuple(folder / f"{n}.crt" for n in names)
        tls = TlsFiles(folder / "relay.crt", folder / "relay.tls", trusted)
        self.relay = Relay(socket.create_server(("127.0.0.1", 0)), tls=tls, seats=seats)
        self.thread = threading.Thread(target=self.relay.serve, daemon=True)
        self.thread.start()

    def close(self):
        self.relay.stop()
        self.thread.join(10)

    def connect_as(self, name):
        def connect(roster, identity, run, within, stopped=lambda: False):
            folder = self.folder
            return RelayTransport.connect(
                roster,
                identity,
                run=run,
                relay=self.relay.address,
                relay_fingerprint=certificate_fingerprint(folder / "relay.crt"),
                tls=TlsFiles(folder / f"{name}.crt", folder / f"{name}.tls", (folder / "relay.crt",)),
                within=within,
                stopped=stopped,
            )

        return connect

    def material(self, parties, attempt=1, within=10.0):
        """Every party's store, as its agent makes it. Raises the first error."""

        def one(i):
            name = parties[i]
            roster = Roster((Member("dealer", self.keys["dealer"].public), Member(name, self.keys[name].public)))
            run = f"{JOB}/{attempt}/deal/{i}"
            transport = self.connect_as(name)(roster, self.keys[name].at(1), run, within)
            return remote_material(transport, party=i, n_parties=len(parties))

        with ThreadPoolExecutor(len(parties)) as pool:
            return list(pool.map(one, range(len(parties))))

    def file(self, *, operator="Trust Office", hub_operator="Hub Office", more="", seconds=5.0, **partners):
        texts = [
            f'[partners.{name}]\nidentity = "{self.keys[name].public.hex()}"\noperator = "{by}"\n'
            for name, by in (partners or {name: f"Hospital {name}" for name in SITES}).items()
        ]
        path = self.folder / "dealer.toml"
        path.write_text(
            f'name = "dealer"\noperator = "{operator}"\nconnect_seconds = {seconds}\n{more}\n'
            f'[hub]\naddress = "127.0.0.1:1"\nfingerprint = "{"00" * 32}"\noperator = "{hub_operator}"\n'
            '[keys]\nidentity = "dealer.key"\ntls_key = "dealer.tls"\ntls_certificate = "dealer.crt"\n'
            'hub_certificate = "relay.crt"\n' + "".join(texts)
        )
        return path


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("dealer"))
    yield world
    world.close()


@contextlib.contextmanager
def member(world, **options):
    """Return a dealer and what it tells the hub."""
    told = []
    dealer = DealerMember(
        DealerService.load(world.file(**options)),
        identity=world.keys["dealer"],
        connect=world.connect_as("dealer"),
        tell=told.append,
    )
    try:
        yield dealer, told
    finally:
        dealer.close()


def start(parties=SITES, *, attempt=1, dealer="dealer", job=JOB):
    head = Start(job=job, attempt=attempt, sites=tuple(parties), parties=tuple(parties), dealer=dealer, run_by=FAR)
    return Message(head, b"", "")


def offer(world, key, parties=SITES, job=None):
    document = SignedDocument(b"{}", key.public.hex(), key.sign(b"synthema/study/v1\n{}"))
    world.folder.joinpath("result.key").unlink(missing_ok=True)
    result_key = new_sealing_key(world.folder / "result.key")
    submission = Submission.new(document, result_key, key)
    head = Offer(
        job=job or submission.job_id,
        attempt=1,
        researcher="anna",
        public_key=key.public.hex(),
        signature=document.signature.hex(),
        sites=tuple(parties),
        parties=tuple(parties),
        dealer="dealer",
        decide_by=FAR,
        run_seconds=60.0,
    )
    return Message(head, submission.encode(), "")


def products_fit(stores, count=50):
    shares = [store.take(Product(RING64), count) for store in stores]
    a, b, c = (sum(part[1:], start=part[0]) for part in zip(*shares, strict=True))
    return (a * b == c).all()


@pytest.mark.parametrize("parties", [SITES, SITES[1:]], ids=["three", "two"])
def test_a_start_brings_material_to_every_party(world, caplog, parties):
    caplog.set_level(logging.INFO)
    with member(world) as (dealer, told):
        dealer.handle(start(parties))
        stores = world.material(parties)
        assert products_fit(stores)
        for store in stores:
            store.close()
        assert dealer.wait(10)
        assert told == []
    line = next(record.message for record in caplog.records if "served" in record.message)
    assert f"served {len(parties)} parties" in line
    assert JOB[:16] in line


def test_a_start_that_comes_twice_is_one_run(world):
    with member(world) as (dealer, _):
        dealer.handle(start())
        dealer.handle(start())
        assert dealer._stops.keys() == {(JOB, 1)}
        stores = world.material(SITES)
        for store in stores:
            store.close()
        assert dealer.wait(10)
        # Nor is it served again when it is over.
        dealer.handle(start())
        assert dealer._stops == {}


def test_attempts_have_seeds_of_their_own(world):
    firsts = []
    with member(world) as (dealer, _):
        for attempt in (1, 2):
            dealer.handle(start(attempt=attempt))
            stores = world.material(SITES, attempt=attempt)
            firsts.append([store.take(Product(RING64), 1)[0][0] for store in stores])
            for store in stores:
                store.close()
    assert not set(firsts[0]) & set(firsts[1])


def test_a_cancelled_job_ends_typed_at_the_party(world):
    with member(world) as (dealer, told):
        dealer.handle(start())
        stores = world.material(SITES)
        dealer.handle(Message(Cancel(job=JOB, attempt=1), b"", ""))
        assert dealer.wait(10)
        with pytest.raises(DealerUnavailable, match="stopped"):
            stores[-1].take(Product(RING64), 1)
        assert told == []


def test_a_cancelled_job_is_not_waited_for(world):
    with member(world, seconds=600.0) as (dealer, told):
        dealer.handle(start(attempt=7))
        dealer.handle(Message(Cancel(job=JOB, attempt=7), b"", ""))
        assert dealer.wait(10)
        assert told == []


def test_a_party_that_does_not_come_fails_the_run_and_the_hub_hears_of_it(world):
    with member(world, seconds=0.3) as (dealer, told):
        dealer.handle(start())
        assert dealer.wait(10)
        (head,) = told
        assert isinstance(head, Outcome)
        assert (head.state, head.error) == ("failed", "PeerUnavailable")
        # None of them came: whoever was given up first.
        assert head.site in SITES


def test_a_member_with_another_key_is_not_served(world):
    """The hub says that it is vienna; the key that the operator pinned says that it is not."""
    with member(world, seconds=1.0) as (dealer, told):
        dealer.handle(start(SITES[:2]))
        roster = Roster((Member("dealer", world.keys["dealer"].public), Member("vienna", world.keys["linz"].public)))
        with pytest.raises(Exception, match="another roster"):
            world.connect_as("linz")(roster, world.keys["linz"].at(1), f"{JOB}/1/deal/0", 1.0)
        assert dealer.wait(10)
        assert told[0].state == "failed"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dealer": "another"}, "dealer"),
        ({"parties": ("vienna", "paris")}, "parties"),
        ({"parties": ("vienna", "vienna")}, "parties"),
        ({"parties": ("vienna",)}, "parties"),
    ],
)
def test_a_start_that_is_not_for_this_dealer_is_refused(world, options, reason):
    with member(world) as (dealer, told):
        dealer.handle(start(**options))
        assert [head.error for head in told] == [reason]
        assert dealer._stops == {}


def test_only_listed_researchers_are_served(world, tmp_path):
    new_identity_file(tmp_path / "anna.key")
    new_identity_file(tmp_path / "eve.key")
    anna, eve = (Identity.load(0, tmp_path / f"{name}.key") for name in ("anna", "eve"))
    with member(world, more=f'researchers = ["{anna.public.hex()}"]', seconds=0.2) as (dealer, told):
        dealer.handle(offer(world, eve))
        assert (told[-1].decision, told[-1].reason) == ("refused", "researcher")
        dealer.handle(offer(world, anna, job=JOB))
        assert (told[-1].decision, told[-1].reason) == ("refused", "malformed")
        dealer.handle(Message(offer(world, anna).head, b"{}", ""))
        assert (told[-1].decision, told[-1].reason) == ("refused", "malformed")
        good = offer(world, anna)
        # A hub that offered nothing cannot start anything.
        dealer.handle(start(job=good.head.job))
        assert told[-1].error == "researcher"
        dealer.handle(good)
        assert isinstance(told[-1], Decision)
        assert told[-1].decision == "accepted"
        dealer.handle(start(job=good.head.job, attempt=2))
        assert dealer._stops.keys() == {(good.head.job, 2)}
        dealer.handle(Message(Cancel(job=good.head.job, attempt=2), b"", ""))


def test_no_more_runs_at_a_time_than_the_operator_allows(world):
    with member(world, more="most_runs = 1") as (dealer, told):
        dealer.handle(start())
        dealer.handle(start(attempt=2))
        assert [head.error for head in told] == ["busy"]
        for store in world.material(SITES):
            store.close()


@pytest.mark.parametrize(
    "options",
    [
        {"operator": "HUB office"},
        {"operator": "hospital-vienna"},
        {"vienna": "A", "graz": "trust office"},
    ],
)
def test_a_dealer_that_is_not_separate_does_not_begin(world, options):
    with pytest.raises(DealerNotSeparate):
        DealerService.load(world.file(**options))


@pytest.mark.parametrize(
    "more",
    ["most_runs = 0", "colour = 1", "[limits]\ncolour = 1", "[limits]\nrun_bytes = 0", 'researchers = ["x"]', "name ="],
)
def test_a_file_with_a_mistake_is_refused(world, more):
    with pytest.raises(StudyError, match=r"dealer\.toml"):
        DealerService.load(world.file(more=more))


def test_limits_in_the_file_are_those_of_the_runs(world):
    path = world.file()
    path.write_text(path.read_text() + "[limits]\nrun_bytes = 8\n")
    config = DealerService.load(path)
    assert config.run_limits().run_bytes == 8
    told = []
    dealer = DealerMember(config, identity=world.keys["dealer"], connect=world.connect_as("dealer"), tell=told.append)
    dealer.handle(start())
    stores = world.material(SITES)
    with pytest.raises(DealerUnavailable, match="more than the dealer gives away"):
        stores[-1].take(Product(RING64), 2)
    assert dealer.wait(10)
    assert told[0].error == "DealerLimitReached"
    dealer.close()


@pytest.mark.slow
def test_the_command_serves_until_it_is_ended(world):
    process = subprocess.Popen(
        [sys.executable, "-m", "synthema", "dealer", "serve", "--config", str(world.file())],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # No hub is there: it says so, and goes on trying.
    assert "can reconstruct the inputs" in process.stdout.readline()
    assert any("down" in line for line in process.stderr)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    process.stdout.close()
    process.stderr.close()
