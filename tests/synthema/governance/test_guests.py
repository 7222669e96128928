"""Small sites whose tables a partner holds: policies, ledgers and refusals of their own."""

import re
from pathlib import Path

import pytest
from governance_cases import ANNA, CURVES, SCHEMA, SITES, frame, site, study

from privacy._toml import dump_toml
from privacy.ledger import verify
from synthema.agent.guests import open_guest, read_guests
from synthema.agent.queue import ApprovalQueue, QueueApproval
from synthema.errors import PolicyError, SiteRefused, StudyError
from synthema.pipeline import run
from synthema.tables import read_table

CONSENT = "The board of the Graz clinic agreed on 2031-01-01 that Vienna holds and sees the rows of its registry.\n"
GRAZ, LINZ = "graz", "linz"
FEWEST = 20


def clinic(folder: Path, name: str, n: int = 40, **policy) -> dict:
    """Write a guest's files; return its section."""
    place = folder / name
    place.mkdir()
    frame(name, n).to_csv(place / "table.csv", index=False)
    (place / "schema.toml").write_text(dump_toml(SCHEMA))
    (place / "site.secret").write_text("5a" * 32)
    (place / "site.secret").chmod(0o600)
    rules = {"epsilon_cap": 1.0, "delta_cap": 1e-6, "min_patients": FEWEST, "any_researcher": True} | policy
    (place / "policy.toml").write_text(dump_toml({"policy": rules}))
    (place / "consent.txt").write_text(CONSENT)
    return {
        "name": name,
        "schema": f"{name}/schema.toml",
        "ledger": f"{name}/ledger.db",
        "secret": f"{name}/site.secret",
        "policy": f"{name}/policy.toml",
        "consent": f"{name}/consent.txt",
        "data": {"kind": "csv", "path": f"{name}/table.csv"},
    }


def guests(folder, *sections, partners=frozenset({"madrid", "milan"})):
    return read_guests(sections, host="vienna", folder=folder, partners=partners)


def reader(folder):
    return lambda data, schema: read_table(folder / data["path"], schema)


def test_a_guest_is_a_site_of_its_own_in_the_hosts_process(tmp_path):
    (graz,) = guests(tmp_path, clinic(tmp_path, GRAZ))
    names = ("vienna", "graz", "madrid")
    asked = study(sites=names, federation={"compute_parties": ["vienna", "madrid"]}, epsilon=0.8)
    places = {name: site(tmp_path, name) for name in ("vienna", "madrid")}
    places[GRAZ] = open_guest(graz, reader(tmp_path))
    outcome = run(asked.signed(ANNA), places, folder=tmp_path)
    assert len(outcome.table) == 50
    # Each paid from its own ledger, and the guest's says who holds it.
    for name in ("vienna", "madrid"):
        assert places[name].ledger.remaining("private").rho_spent > 0
    assert places[GRAZ].ledger.remaining("private").epsilon_cap == 1.0
    assert places[GRAZ].ledger.remaining("private").rho_spent > 0
    notes = [entry.body["text"] for entry in places[GRAZ].ledger.entries() if entry.kind == "note"]
    assert graz.note in notes
    places[GRAZ].ledger.close()
    assert verify(graz.ledger_url).ok


def test_a_guests_budget_and_policy_are_its_own(tmp_path):
    sections = [clinic(tmp_path, GRAZ, epsilon_cap=0.4), clinic(tmp_path, LINZ)]
    graz, linz = (open_guest(guest, reader(tmp_path)) for guest in guests(tmp_path, *sections))
    names = ("vienna", "graz", "linz", "madrid")
    asked = study(sites=names, federation={"compute_parties": ["vienna", "madrid"]})
    document = asked.signed(ANNA)
    with pytest.raises(SiteRefused) as caught:
        graz.accept(document)
    assert (caught.value.site, caught.value.reason) == ("graz", "budget")
    linz.accept(document)
    # The host's rules are not the guests': each has what its own file says.
    assert graz.policy.partners == {"vienna", "linz", "madrid", "milan"}
    assert graz.policy.hosts == {"graz": "vienna", "linz": "vienna"}


def test_a_host_and_its_guests_are_one_site_for_exact_releases(tmp_path):
    (graz,) = guests(tmp_path, clinic(tmp_path, GRAZ, allow_exact=True))
    place = open_guest(graz, reader(tmp_path))
    alone = study(
        sites=("vienna", "graz", "madrid"), exact=CURVES, federation={"compute_parties": ["vienna", "madrid"]}
    )
    with pytest.raises(SiteRefused, match="hold their own tables"):
        place.accept(alone.signed(ANNA))
    with_a_third = study(sites=("graz", *SITES), exact=CURVES, federation={"compute_parties": list(SITES)})
    place.accept(with_a_third.signed(ANNA))


def test_the_operator_decides_for_each_table(tmp_path):
    sections = [clinic(tmp_path, GRAZ), clinic(tmp_path, LINZ)]
    known = guests(tmp_path, *sections)
    asked = study(sites=("vienna", "graz", "linz", "madrid"))
    with ApprovalQueue(tmp_path / "queue.db") as queue:
        approvals = {guest.name: QueueApproval(queue, guest.name, guest.policy) for guest in known}
        for name, approval in approvals.items():
            assert approval.ask("ab" * 32, asked, ANNA.public_key) == "waiting"
            approval.note("ab" * 32, "waiting")
            assert queue.find("ab", name).site == name
        queue.refuse("ab", site=GRAZ, by="Dr. Huber", reason="needs-approval")
        assert approvals[GRAZ].ask("ab" * 32, asked, ANNA.public_key) == "refused"
        assert approvals[LINZ].ask("ab" * 32, asked, ANNA.public_key) == "waiting"


def test_the_consent_is_noted_once(tmp_path):
    (graz,) = guests(tmp_path, clinic(tmp_path, GRAZ))
    for _ in range(3):
        place = open_guest(graz, reader(tmp_path))
        place.ledger.close()
    place = open_guest(graz, reader(tmp_path))
    notes = [entry.body["text"] for entry in place.ledger.entries() if entry.kind == "note"]
    assert notes.count(graz.note) == 1
    assert re.search(r"[0-9a-f]{64}$", graz.note)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda place: (place / "consent.txt").unlink(), "consent"),
        (lambda place: (place / "consent.txt").write_text("yes"), "consent says nothing"),
        (lambda place: (place / "policy.toml").write_text("[other]\n"), "policy"),
        (lambda place: (place / "policy.toml").write_text("[policy]\nepsilon_cap = 0.0\n"), "epsilon_cap"),
    ],
)
def test_without_consent_or_policy_a_guests_table_is_not_opened(tmp_path, change, words):
    section = clinic(tmp_path, GRAZ)
    change(tmp_path / GRAZ)
    with pytest.raises((StudyError, PolicyError), match=words) as caught:
        guests(tmp_path, section)
    assert "graz" in str(caught.value)


def test_a_guest_has_a_name_a_ledger_and_a_secret_of_its_own(tmp_path):
    section = clinic(tmp_path, GRAZ)
    for name in ("vienna", "madrid"):
        with pytest.raises(StudyError, match="is taken"):
            guests(tmp_path, section | {"name": name})
    with pytest.raises(StudyError, match="is taken"):
        guests(tmp_path, section, section)
    for what in ("ledger", "secret", "policy", "consent"):
        second = clinic(tmp_path, f"other-{what}")
        with pytest.raises(StudyError, match=f"share one {what}"):
            guests(tmp_path, section, second | {what: f"other-{what}/../graz/{Path(section[what]).name}"})
    (tmp_path / GRAZ / "site.secret").chmod(0o644)
    (graz,) = guests(tmp_path, section)
    with pytest.raises(ValueError, match="touched by others"):
        open_guest(graz, reader(tmp_path))
