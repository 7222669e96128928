"""Small sites whose tables a partner holds: policies, ledgers and refusals of their own."""

import re
import tomllib

import pytest
from governance_cases import ANNA, CURVES, SCHEMA, SITES, frame, site, study

from privacy._toml import dump_toml
from privacy.ledger import load_key, open_ledger, verify
from synthema.agent.config import PartnerSection, SiteConfig
from synthema.agent.guests import consent_note, guest_config, read_guest
from synthema.agent.queue import ApprovalQueue, QueueApproval
from synthema.agent.setup import Card, card_of, make_guest, make_site, read_cards, trust
from synthema.agent.table import site_policy, witness_policy
from synthema.errors import PolicyError, SiteRefused, StudyError, TableError
from synthema.networks.asking import Asking
from synthema.pipeline import run

CONSENT = "The board of the Graz clinic agreed on 2031-01-01 that Vienna holds and sees the rows of its registry.\n"
GRAZ, LINZ = "graz", "linz"
FEWEST = 20
HUB = {"hub": {"address": "127.0.0.1:1", "fingerprint": "00" * 32}}
# There is nobody to ask here.
ALONE = {"witnesses": {"needed": 0}}


def make_host(folder) -> SiteConfig:
    make_site(folder / "vienna", "vienna")
    host = SiteConfig.load(folder / "vienna")
    cards = [Card(name, PartnerSection(identity=f"{i}{i}" * 32)) for i, name in enumerate(("madrid", "milan"))]
    trust(host, cards)
    return SiteConfig.load(host.folder)


def clinic(host: SiteConfig, name: str, n: int = 40, **policy) -> SiteConfig:
    """Make a guest by the operator's steps, and fill its file in."""
    guest = make_guest(SiteConfig.load(host.folder), name, CONSENT)
    frame(name, n).to_csv(guest.place("table.csv"), index=False)
    guest.place("schema.toml").write_text(dump_toml(SCHEMA))
    data = tomllib.loads(guest.place("site.toml").read_text())
    rules = {"epsilon_cap": 1.0, "delta_cap": 1e-6, "min_patients": FEWEST, "any_researcher": True} | policy
    guest.place("site.toml").write_text(dump_toml(data | {"policy": rules} | HUB | ALONE))
    return SiteConfig.load(guest.folder)


@pytest.fixture
def host(tmp_path):
    return make_host(tmp_path)


def read(host: SiteConfig, name: str):
    host = SiteConfig.load(host.folder)
    return read_guest(host, next(each for each in host.guests if each.name == name))


def opened(host: SiteConfig, name: str):
    guest = read(host, name)
    return guest.open(guest.config, Asking(lambda *_: False))


def test_a_guest_is_a_site_of_its_own_in_the_hosts_folder(tmp_path, host):
    clinic(host, GRAZ)
    names = ("vienna", "graz", "madrid")
    asked = study(sites=names, federation={"compute_parties": ["vienna", "madrid"]}, epsilon=0.8)
    places = {name: site(tmp_path, name) for name in ("vienna", "madrid")}
    places[GRAZ] = opened(host, GRAZ)
    outcome = run(asked.signed(ANNA), places, folder=tmp_path)
    assert len(outcome.table) == 50
    # Each paid from its own ledger, and the guest's says who holds it.
    for name in ("vienna", "madrid"):
        assert places[name].ledger.remaining("private").rho_spent > 0
    assert places[GRAZ].ledger.remaining("private").epsilon_cap == 1.0
    assert places[GRAZ].ledger.remaining("private").rho_spent > 0
    notes = [entry.body["text"] for entry in places[GRAZ].ledger.entries() if entry.kind == "note"]
    assert consent_note(CONSENT) in notes
    for place in places.values():
        place.ledger.close()
    assert verify(read(host, GRAZ).config.ledger_url).ok


def test_a_guests_budget_and_policy_are_its_own(host):
    clinic(host, GRAZ, epsilon_cap=0.4)
    clinic(host, LINZ)
    graz, linz = opened(host, GRAZ), opened(host, LINZ)
    names = ("vienna", "graz", "linz", "madrid")
    asked = study(sites=names, federation={"compute_parties": ["vienna", "madrid"]})
    document = asked.signed(ANNA)
    with pytest.raises(SiteRefused) as caught:
        graz.accept(document)
    assert (caught.value.site, caught.value.reason) == ("graz", "budget")
    linz.accept(document)
    # The host's rules are not the guests': each has what its own file says. All know each other.
    assert graz.policy.partners == {"vienna", "linz", "madrid", "milan"}
    assert linz.policy.partners == {"vienna", "graz", "madrid", "milan"}
    assert graz.policy.hosts == {"graz": "vienna", "linz": "vienna"}
    assert site_policy(SiteConfig.load(host.folder)).hosts == {"graz": "vienna", "linz": "vienna"}
    for place in (graz, linz):
        place.ledger.close()


def test_a_host_and_its_guests_are_one_site_for_exact_releases(host):
    clinic(host, GRAZ, allow_exact=True)
    place = opened(host, GRAZ)
    alone = study(
        sites=("vienna", "graz", "madrid"), exact=CURVES, federation={"compute_parties": ["vienna", "madrid"]}
    )
    with pytest.raises(SiteRefused, match="hold their own tables"):
        place.accept(alone.signed(ANNA))
    with_a_third = study(sites=("graz", *SITES), exact=CURVES, federation={"compute_parties": list(SITES)})
    place.accept(with_a_third.signed(ANNA))
    place.ledger.close()


def test_a_guest_computes_nothing(host):
    clinic(host, GRAZ)
    place = opened(host, GRAZ)
    asked = study(sites=("vienna", "graz", "madrid"))
    with pytest.raises(SiteRefused, match="graz is another site's guest") as caught:
        place.accept(asked.signed(ANNA))
    assert (caught.value.site, caught.value.reason) == ("graz", "collusion")
    place.ledger.close()


def test_the_operator_decides_for_each_table(tmp_path, host):
    for name in (GRAZ, LINZ):
        clinic(host, name)
    policies = {name: site_policy(read(host, name).config) for name in (GRAZ, LINZ)}
    asked = study(sites=("vienna", "graz", "linz", "madrid"))
    with ApprovalQueue(tmp_path / "queue.db") as queue:
        approvals = {name: QueueApproval(queue, name, policy) for name, policy in policies.items()}
        for name, approval in approvals.items():
            assert approval.ask("ab" * 32, asked, ANNA.public_key) == "waiting"
            approval.note("ab" * 32, "waiting")
            assert queue.find("ab", name).site == name
        queue.refuse("ab", site=GRAZ, by="Dr. Huber", reason="needs-approval")
        assert approvals[GRAZ].ask("ab" * 32, asked, ANNA.public_key) == "refused"
        assert approvals[LINZ].ask("ab" * 32, asked, ANNA.public_key) == "waiting"


def test_the_consent_is_noted_once_and_before_the_table_is_opened(host):
    graz = clinic(host, GRAZ)
    graz.place("table.csv").rename(graz.place("away.csv"))
    for _ in range(2):
        with pytest.raises(TableError, match="table"):
            opened(host, GRAZ)
    graz.place("away.csv").rename(graz.place("table.csv"))
    place = opened(host, GRAZ)
    notes = [entry.body["text"] for entry in place.ledger.entries() if entry.kind == "note"]
    assert notes.count(consent_note(CONSENT)) == 1
    assert re.search(r"[0-9a-f]{64}$", consent_note(CONSENT))
    place.ledger.close()


def harmed(name, text):
    return lambda graz: graz.place(name).write_text(text)


def changed(old, new):
    def change(graz):
        file = graz.place("site.toml")
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda graz: graz.place("consent.txt").unlink(), "consent"),
        (harmed("consent.txt", "yes"), "consent says nothing"),
        (harmed("site.toml", "[policy"), "site.toml"),
        (changed("epsilon_cap = 1.0", "epsilon_cap = 0.0"), "epsilon_cap"),
        (changed('name = "graz"', 'name = "linz"'), 'must say name = "graz"'),
        (changed('host = "vienna"\n', ""), 'must say name = "graz" and host = "vienna"'),
        (changed("[hub]", "[catalogue]"), "has joined no hub"),
    ],
)
def test_without_consent_or_policy_a_guest_is_not_read(host, change, words):
    change(clinic(host, GRAZ))
    with pytest.raises((StudyError, PolicyError), match=words) as caught:
        read(host, GRAZ)
    assert "graz" in str(caught.value)


def test_a_consent_that_is_taken_away_holds_from_then_on(host):
    graz = clinic(host, GRAZ)
    guest = read(host, GRAZ)
    graz.place("consent.txt").unlink()
    with pytest.raises(StudyError, match="consent"):
        guest.open(guest.config, Asking(lambda *_: False))
    signer = load_key(graz.place(graz.keys.ledger))
    with open_ledger(graz.ledger_url, site=GRAZ, signer=signer) as ledger:
        assert not [e for e in ledger.entries() if e.kind == "note" and "consent" in e.body["text"]]


def test_a_guest_has_a_name_a_folder_and_a_secret_of_its_own(host):
    graz = clinic(host, GRAZ)
    for name in ("vienna", "madrid", GRAZ):
        with pytest.raises(StudyError, match="is taken"):
            make_guest(SiteConfig.load(host.folder), name, CONSENT)
    with pytest.raises(StudyError, match="holds nobody's table"):
        make_guest(graz, LINZ, CONSENT)
    with pytest.raises(StudyError, match="says nothing"):
        make_guest(SiteConfig.load(host.folder), LINZ, "yes")
    assert not host.place("guests/linz").exists()
    for key in graz.place("keys").iterdir():
        assert key.stat().st_mode & 0o077 == 0
    file = host.place("site.toml")
    before = file.read_text()
    section = '\n[[guests]]\nname = "{}"\nfolder = "guests/graz"\nconsent = "c"\n'
    for name in ("vienna", "madrid", GRAZ):
        file.write_text(before + section.format(name))
        with pytest.raises(StudyError, match="is taken"):
            SiteConfig.load(file)
    file.write_text(before + section.format(LINZ))
    twice = SiteConfig.load(file)
    for guest in twice.guests:
        with pytest.raises(StudyError, match="same folder"):
            guest_config(twice, guest)
    file.write_text(before)
    graz.place("keys/site.secret").chmod(0o644)
    with pytest.raises(ValueError, match="touched by others"):
        opened(host, GRAZ)


def test_a_guests_card_says_whose_guest_it_is(tmp_path, host):
    graz = clinic(host, GRAZ)
    (card,) = read_cards(card_of(graz).text)
    assert card.section.host == "vienna"
    # Its host countersigns, not the guest; and not for the guest, whose ledger comes back from the same backup.
    assert card.section.witness_key == ""
    assert card_of(host).section.witness_key
    assert graz.witness_names == ()
    with pytest.raises(StudyError, match="witness_key"):
        witness_policy(graz.model_copy(update={"witnesses": graz.witnesses.model_copy(update={"needed": 1})}), None)
    make_site(tmp_path / "paris", "paris")
    paris = SiteConfig.load(tmp_path / "paris")
    # A guest is trusted with its host or after it.
    with pytest.raises(StudyError, match="no other site that is listed"):
        trust(paris, [card])
    trust(paris, [card_of(host), card])
    policy = site_policy(SiteConfig.load(paris.folder))
    assert (policy.host_of("graz"), SiteConfig.load(paris.folder).witness_names) == ("vienna", ("vienna",))


def test_whom_the_host_trusts_later_its_guests_know_too(host):
    clinic(host, GRAZ)
    trust(SiteConfig.load(host.folder), [Card("paris", PartnerSection(identity="77" * 32))])
    assert "paris" in SiteConfig.load(host.folder).partners
    assert "paris" in read(host, GRAZ).config.partners
    # With a broken file of a guest nothing is changed anywhere.
    read(host, GRAZ).config.place("site.toml").write_text("[policy")
    with pytest.raises(StudyError, match="graz"):
        trust(SiteConfig.load(host.folder), [Card("rome", PartnerSection(identity="88" * 32))])
    assert "rome" not in SiteConfig.load(host.folder).partners
