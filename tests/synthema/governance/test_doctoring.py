"""`synthema doctor`: each thing that can be wrong with a site is found, named, and told without a value or a key."""

import json
import socket
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from governance_cases import ANNA, SCHEMA, frame
from typer.testing import CliRunner

from privacy._toml import dump_toml
from privacy.ledger import generate_key, open_ledger
from smpc.transport.roster import Identity, new_identity_file, write_private
from synthema.cli.app import app
from synthema.doctoring import examine
from synthema.errors import StudyError

NOW = datetime.now(UTC)


def certificate(path, start, end):
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding

    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "vienna")])
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(1).not_valid_before(start).not_valid_after(end)
    path.write_bytes(built.sign(key, None).public_bytes(Encoding.PEM))


class Clinic:
    """A site's folder in which all is well, and its TOML as data that can be changed."""

    def __init__(self, folder):
        self.folder = folder
        self.keys = folder / "keys"
        self.keys.mkdir(mode=0o700)
        new_identity_file(self.keys / "identity.key")
        new_identity_file(self.keys / "tls.key")
        generate_key(self.keys / "ledger.key", name="vienna/ledger")
        generate_key(self.keys / "witness.key", name="vienna/witness")
        write_private(self.keys / "site.secret", b"5a" * 32)
        for name in ("member.crt", "hub-ca.crt"):
            certificate(self.keys / name, NOW - timedelta(days=1), NOW + timedelta(days=300))
        frame("vienna").to_csv(folder / "table.csv", index=False)
        (folder / "schema.toml").write_text(dump_toml(SCHEMA))
        with open_ledger(f"sqlite:///{folder}/ledger.db", site="vienna", anchor=folder.parent / "vienna.anchor"):
            pass
        self.data = {
            "version": 1,
            "name": "vienna",
            "operator": "AKH Wien",
            "hub": {"address": "127.0.0.1:1", "fingerprint": "00" * 32, "operator": "Hub Ltd"},
            "ledger": {"url": "sqlite:///ledger.db", "anchor": "../vienna.anchor"},
            "witnesses": {"needed": 1},
            "data": {"kind": "csv", "path": "table.csv"},
            "policy": {
                "epsilon_cap": 3.0,
                "delta_cap": 1e-6,
                "researchers": [{"name": "Anna", "key": ANNA.public_key}],
            },
            "partners": {
                "madrid": {"identity": "11" * 32, "witness_key": "madrid", "operator": "Hospital Madrid"},
                "dealer": {"identity": "22" * 32, "role": "dealer", "operator": "Trust Office Graz"},
            },
        }

    def write(self):
        (self.folder / "site.toml").write_text(dump_toml(self.data))
        return self.folder / "site.toml"

    def look(self, **options):
        return examine(self.write(), **options)

    def bad(self, **options):
        return [check for check in self.look(**options) if check.level != "ok"]


@pytest.fixture
def clinic(tmp_path):
    folder = tmp_path / "vienna"
    folder.mkdir()
    return Clinic(folder)


# What stands in every test's own surroundings, and is no fault of the site.
AROUND = {"ledger/anchor", "ledger/sqlite", "ledger/checkpoint", "ledger/files", "disk", "ledger/room"}


def test_of_a_site_where_all_is_well_nothing_is_said_but_what_is_around_it(clinic):
    checks = clinic.look()
    assert [check for check in checks if check.level == "fail"] == []
    assert {check.name for check in checks if check.level == "warn"} <= AROUND
    names = {check.name for check in checks}
    assert {"config", "keys", "certificate", "partners", "dealer", "policy", "clock", "disk", "data"} <= names


def test_what_the_doctor_reads_is_what_the_agent_reads(clinic):
    from synthema.agent.config import SiteConfig
    from synthema.agent.table import site_policy

    clinic.data["partners"]["graz"] = {"identity": "33" * 32, "host": "madrid"}
    config = SiteConfig.load(clinic.write())
    assert config.partners["dealer"].role == "dealer"
    assert (config.operator, config.hub.operator) == ("AKH Wien", "Hub Ltd")
    policy = site_policy(config)
    assert (policy.host_of("graz"), policy.host_of("madrid")) == ("madrid", "madrid")
    clinic.data["policy"] = "datashield"
    assert site_policy(SiteConfig.load(clinic.write())).max_levels == 40
    clinic.data["partners"]["graz"]["host"] = "nobody"
    with pytest.raises(StudyError, match="no other site"):
        SiteConfig.load(clinic.write())


def open_to_others(clinic):
    (clinic.keys / "identity.key").chmod(0o640)


def lost(clinic):
    (clinic.keys / "tls.key").unlink()


def no_file(clinic):
    (clinic.keys / "site.secret").unlink()
    (clinic.keys / "site.secret").mkdir()


def open_folder(clinic):
    clinic.keys.chmod(0o777)


def expired(clinic):
    certificate(clinic.keys / "member.crt", NOW - timedelta(days=90), NOW - timedelta(days=1))


def soon(clinic):
    certificate(clinic.keys / "member.crt", NOW - timedelta(days=90), NOW + timedelta(days=10))


def not_yet(clinic):
    certificate(clinic.keys / "hub-ca.crt", NOW + timedelta(days=1), NOW + timedelta(days=90))


def no_certificate(clinic):
    (clinic.keys / "hub-ca.crt").write_text("rubbish")


def change(*path, to):
    def apply(clinic):
        data = clinic.data
        for name in path[:-1]:
            data = data[name]
        data[path[-1]] = to

    apply.__name__ = ".".join(path)
    return apply


def own_key(clinic):
    clinic.data["partners"]["madrid"]["identity"] = Identity.load(0, clinic.keys / "identity.key").public.hex()


def no_ledger(clinic):
    (clinic.folder / "ledger.db").unlink()


def no_table(clinic):
    (clinic.folder / "table.csv").unlink()


def wrong_value(clinic):
    table = frame("vienna")
    table.loc[3, "age"] = 77713
    table.to_csv(clinic.folder / "table.csv", index=False)


@pytest.mark.parametrize(
    ("harm", "name", "level", "words"),
    [
        (open_to_others, "keys", "fail", "mode 0640"),
        (lost, "keys", "fail", "tls.key"),
        (no_file, "keys", "fail", "not a regular file"),
        (open_folder, "keys", "fail", "folder"),
        (expired, "certificate", "fail", "expired"),
        (soon, "certificate", "warn", "valid until"),
        (not_yet, "certificate", "fail", "is valid from"),
        (no_certificate, "certificate", "fail", "no certificate"),
        (change("partners", to={}), "partners", "warn", "no partner"),
        (change("partners", "dealer", "identity", to="11" * 32), "partners", "fail", "one key"),
        (change("partners", "madrid", "identity", to="1"), "partners", "fail", "64 hex"),
        (own_key, "partners", "fail", "own key"),
        (change("witnesses", "needed", to=2), "partners", "fail", "2 witnesses"),
        (change("witnesses", "needed", to=0), "partners", "warn", "countersigns"),
        (change("partners", "dealer", "operator", to="hub LTD."), "dealer", "fail", "relay"),
        (change("partners", "dealer", "operator", to="AKH-Wien"), "dealer", "fail", "party"),
        (change("hub", "operator", to=""), "dealer", "warn", "not declared"),
        (change("policy", "epsilon_cap", to=-1.0), "policy", "fail", "epsilon_cap"),
        (change("policy", "researchers", to=[]), "policy", "warn", "every study is refused"),
        (change("policy", "allow_exact", to=True), "policy", "warn", "exact"),
        (no_ledger, "ledger/file", "fail", "not there"),
        (no_table, "data", "fail", "table.csv"),
        (wrong_value, "data", "fail", "age"),
        (change("policy", "min_patients", to=61), "data", "warn", "least cohort"),
        (change("data", "kind", to="postgresql"), "data", "fail", "expected tags"),
        (change("data", to={}), "data", "fail", "[data]"),
        (change("guests", to=[{"name": "graz"}]), "guests", "fail", "guests"),
    ],
)
def test_what_is_wrong_is_found_and_told_without_a_value(clinic, harm, name, level, words):
    harm(clinic)
    found = [check for check in clinic.bad() if check.name == name and check.level == level]
    assert any(words in check.what for check in found), clinic.bad()
    assert all(check.way_out for check in found)
    text = " ".join(str(check) for check in clinic.look())
    for secret in ("77713", "5a5a5a", "60 patients", (clinic.keys / "witness.key").read_text()[40:70]):
        assert secret not in text


def test_a_file_that_is_no_toml_is_one_finding_and_the_rest_is_not_guessed(clinic):
    clinic.write().write_text("[policy\n")
    (check,) = examine(clinic.folder)
    assert (check.name, check.level) == ("config", "fail")
    (check,) = examine(clinic.folder / "nowhere.toml")
    assert check.level == "fail"


def test_an_entry_of_a_wrong_kind_does_not_hide_the_rest(clinic):
    clinic.data["partners"] = {"madrid": 3}
    clinic.data["keys"] = "no"
    checks = clinic.look()
    assert any(check.name == "config" and check.level == "fail" for check in checks)
    assert any(check.name == "data" and check.level == "ok" for check in checks)


def test_a_clock_that_is_wrong_is_found(clinic):
    checks = clinic.bad(now=datetime(2019, 1, 1, tzinfo=UTC))
    assert any(check.name == "clock" and check.level == "fail" for check in checks)
    assert any(check.name == "ledger/clock" for check in checks)


def test_the_hub_is_asked_only_if_it_is_wanted(clinic):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        clinic.data["hub"]["address"] = f"127.0.0.1:{port}"
        assert "hub" not in {check.name for check in clinic.look()}
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()
        (answer,) = [check for check in clinic.look(ask_hub=True) if check.name == "hub"]
        assert answer.level == "ok"
    (answer,) = [check for check in clinic.look(ask_hub=True) if check.name == "hub"]
    assert (answer.level, "firewall" in answer.way_out) == ("fail", True)
    clinic.data["hub"]["address"] = "nowhere"
    (answer,) = [check for check in clinic.look(ask_hub=True) if check.name == "hub"]
    assert answer.level == "fail"


def test_a_guests_files_are_looked_at_like_the_sites_own(tmp_path):
    from test_guests import clinic as guest_clinic
    from test_guests import make_host

    host = make_host(tmp_path)
    graz = guest_clinic(host, "graz")

    def found(level):
        checks = examine(host.folder)
        return {check.name: check.what for check in checks if check.name.startswith("guest") and check.level == level}

    good = found("ok")
    assert {"guest graz/config", "guest graz/clock", "guest graz/data", "guest graz/ledger/clock"} <= set(good)
    # It never joined the hub, as far as files tell.
    assert set(found("fail")) == {"guest graz/keys", "guest graz/certificate"}
    graz.place("keys/site.secret").chmod(0o644)
    assert "guest graz/keys" in found("fail")
    graz.place("consent.txt").unlink()
    assert "consent" in found("fail")["guest graz"]
    graz.place("site.toml").write_text("[policy")
    assert {"guest graz", "guest graz/config"} <= set(found("fail"))


def test_the_command_says_it_in_words_and_in_json_and_by_its_exit_code(clinic):
    runner = CliRunner()
    good = runner.invoke(app, ["doctor", "--config", str(clinic.write()), "--json"])
    body = json.loads(good.output)
    assert (good.exit_code, body["ok"]) == (0, True)
    assert set(body["checks"][0]) == {"name", "level", "what", "way_out"}
    lost(clinic)
    bad = runner.invoke(app, ["doctor", "--config", str(clinic.folder)])
    assert bad.exit_code == 5
    assert bad.output.startswith("fail keys: tls.key")


def test_nothing_is_written(clinic):
    clinic.write()

    def state():
        return {
            path: (path.stat().st_mtime_ns, path.stat().st_size) for path in clinic.folder.rglob("*") if path.is_file()
        }

    before = state()
    examine(clinic.folder)
    after = state()
    assert {path: after[path] for path in before} == before
    with sqlite3.connect(f"file:{clinic.folder}/ledger.db?mode=ro", uri=True) as db:
        assert db.execute("PRAGMA quick_check").fetchone() == ("ok",)
    db.close()
