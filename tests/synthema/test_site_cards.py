"""Cards come from partners: what they write stays where it belongs in a site's file."""

import tomllib

import pytest

from privacy._toml import dump_toml
from synthema.agent.setup import card_of, make_site, read_cards, trust
from synthema.errors import StudyError

HONEST, HOSTILE = "11" * 32, "22" * 32
INJECTED = f'Hospital"\n\n[partners.milan]\nidentity = "{HOSTILE}"\n#'


def test_a_card_reads_back_as_what_it_was(tmp_path):
    card = card_of(make_site(tmp_path / "vienna", "vienna"))
    (again,) = read_cards(card.text)
    assert (again.name, again.section, again.fingerprint) == (card.name, card.section, card.fingerprint)
    assert card.text.startswith("[partners.vienna]\nidentity = ")


@pytest.mark.parametrize("field", ["operator", "ledger", "ledger_key", "witness_key"])
def test_no_text_of_a_card_pins_the_keys_of_another_site(tmp_path, field):
    site = make_site(tmp_path / "vienna", "vienna")
    text = dump_toml({"partners": {"madrid": {"identity": HONEST, field: INJECTED}}})
    cards = read_cards(text)
    trust(site, cards)
    pinned = tomllib.loads((tmp_path / "vienna" / "site.toml").read_text())["partners"]
    assert pinned == {"madrid": {"identity": HONEST, field: INJECTED}}


def test_the_name_on_a_card_is_a_name(tmp_path):
    site = make_site(tmp_path / "vienna", "vienna")
    before = (tmp_path / "vienna" / "site.toml").read_text()
    cards = read_cards(
        dump_toml({"partners": {f'x]\n[partners.milan]\nidentity = "{HOSTILE}"\n#': {"identity": HONEST}}})
    )
    with pytest.raises(StudyError):
        trust(site, cards)
    assert (tmp_path / "vienna" / "site.toml").read_text() == before


def test_an_anchor_may_have_any_name(tmp_path):
    folder = tmp_path / "vienna"
    config = make_site(folder, "vienna", anchor='odd "name"\\.anchor')
    assert config.ledger.anchor == 'odd "name"\\.anchor'
