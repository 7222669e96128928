"""What a site publishes of its table: signed, described, and never with the exact number of patients."""

import itertools
import json
from datetime import date

import numpy as np
import pytest
from governance_cases import NOW, frame, site

from privacy import epsilon_to_rho
from privacy.ledger import open_ledger
from privacy.randomness import InsecureSeededRng
from smpc.transport.roster import Identity, new_identity_file
from synthema.catalogue import Description, make_entry, verify_entry
from synthema.errors import CatalogueError
from synthema.intake import FrameData

ABOUT = Description(
    title="Acute myeloid leukaemia in Vienna",
    description="All patients with a first diagnosis.",
    publisher="AKH Wien",
    spatial="Vienna, Austria",
    temporal_start=date(2010, 1, 1),
    temporal_end=date(2024, 12, 31),
    legal_basis="GDPR Art. 9(2)(j); ethics vote 1234/2030",
    purposes=("survival research",),
    keywords=("AML",),
)
EPSILON = 0.5
PATIENTS = 57


@pytest.fixture
def identity(tmp_path):
    new_identity_file(tmp_path / "identity.key")
    return Identity.load(0, tmp_path / "identity.key")


def small(tmp_path, n=PATIENTS, **changes):
    return site(tmp_path, table=frame("vienna", n), **changes)


def publish(place, identity, epsilon=EPSILON):
    return make_entry(place, ABOUT, identity=identity, epsilon=epsilon, now=NOW)


def read(data, identity):
    return verify_entry(data, identity=identity.public, site="vienna")


def test_an_entry_says_what_the_site_wrote_its_schema_and_a_noisy_number(tmp_path, identity):
    place = small(tmp_path)
    entry = read(publish(place, identity), identity)
    assert entry.description == ABOUT
    assert entry.public_schema().content_hash() == place.schema.content_hash() == entry.schema_hash
    assert (entry.patients.kind, entry.patients.epsilon) == ("noisy", EPSILON)
    assert entry.issued == "2031-03-05T10:00:00Z"
    dcat = entry.dcat()
    assert dcat["@type"] == "dcat:Dataset"
    assert dcat["dct:temporal"]["dcat:startDate"] == "2010-01-01"
    assert json.dumps(dcat)


def test_the_number_is_paid_for_once_and_stored(tmp_path, identity):
    place = small(tmp_path)
    first = read(publish(place, identity), identity).patients
    spent = place.ledger.remaining("private").rho_spent
    assert spent > 0
    for _ in range(4):
        assert read(publish(place, identity), identity).patients == first
    assert place.ledger.remaining("private").rho_spent == spent
    assert [event.kind for event in place.ledger.events("private")] == ["discrete_gaussian"]
    with pytest.raises(CatalogueError, match="another epsilon"):
        publish(place, identity, epsilon=2.0)
    # Other rows are another number, and another charge.
    place.ledger.close()
    grown = small(tmp_path, PATIENTS + 1)
    publish(grown, identity)
    assert grown.ledger.remaining("private").rho_spent > spent


def test_the_free_number_is_the_policys_and_charges_nothing(tmp_path, identity):
    for n in (21, PATIENTS):
        place = small(tmp_path, n)
        patients = read(publish(place, identity, epsilon=None), identity).patients
        assert (patients.kind, patients.number, patients.epsilon) == ("at-least", 20, None)
        assert place.ledger.events("private") == ()
        place.ledger.close()
    with pytest.raises(CatalogueError, match="least cohort"):
        publish(small(tmp_path, 19), identity, epsilon=None)


def test_what_is_free_is_the_same_for_every_table(tmp_path, identity):
    entries = set()
    for n in (20, 33, 88):
        folder = tmp_path / str(n)
        folder.mkdir()
        entries.add(publish(small(folder, n), identity, epsilon=None))
    assert len(entries) == 1


DRAWS, P_LEAST, MANY = 200, 1e-4, 150


def test_the_noise_is_of_the_stated_law(tmp_path, monkeypatch):
    """Discrete Gaussian of scale sqrt(1 / (2 rho)): chi-square over the draws; one of half the variance is rejected."""
    from scipy.special import chdtrc

    from synthema import catalogue

    # So many that nothing is cut off at zero.
    place = small(tmp_path, MANY)
    place.rng = InsecureSeededRng(20310305)
    rho, drawn = epsilon_to_rho(EPSILON, 1e-6), []
    monkeypatch.setattr(catalogue, "epsilon_to_rho", lambda *_: rho)
    for number in range(DRAWS):
        place.data_version = f"{number:064x}"
        monkeypatch.setattr(place.ledger, "spend", lambda *_, **__: _Free())
        drawn.append(catalogue._noisy(place, EPSILON).number - MANY)

    def p_value(variance):
        cells = [-15, -9, -5, -2, 1, 4, 8, 14]
        edges = [-np.inf, *cells, np.inf]
        support = np.arange(-200, 201)
        law = np.exp(-(support**2) / (2 * variance))
        expected = [law[(support > low) & (support <= high)].sum() for low, high in itertools.pairwise(edges)]
        observed = [sum(low < value <= high for value in drawn) for low, high in itertools.pairwise(edges)]
        wanted = np.array(expected) / sum(expected) * DRAWS
        return chdtrc(len(wanted) - 1, ((observed - wanted) ** 2 / wanted).sum())

    variance = 1 / (2 * rho)
    assert p_value(variance) > P_LEAST
    assert p_value(variance / 2) < P_LEAST


class _Free:
    """A spend that charges nothing, for drawing often."""

    answered = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def release(self, value):
        return value


def test_a_noisy_number_below_zero_is_zero(tmp_path, identity):
    place = small(tmp_path, min_patients=0, epsilon_cap=50.0)
    place.data = FrameData(place.rows.iloc[:0], place.schema)
    place.rng = InsecureSeededRng(20310305)
    numbers = []
    for number in range(12):
        place.data_version = f"{number:064x}"
        numbers.append(read(publish(place, identity), identity).patients.number)
    assert min(numbers) == 0
    assert max(numbers) > 0


def test_an_entry_that_somebody_changed_or_another_key_signed_is_refused(tmp_path, identity):
    data = publish(small(tmp_path), identity)
    envelope = json.loads(data)
    new_identity_file(tmp_path / "other.key")
    other = Identity.load(0, tmp_path / "other.key")
    changed = envelope | {"entry": envelope["entry"].replace("Vienna, Austria", "Graz, Austria")}
    with pytest.raises(CatalogueError, match="not signed"):
        read(json.dumps(changed).encode(), identity)
    with pytest.raises(CatalogueError, match="not signed"):
        read(data, other)
    # Signed by the other under the first one's name: the reader goes by the key that it knows.
    forged = envelope | {"key": other.public.hex(), "signature": other.sign(envelope["entry"].encode()).hex()}
    with pytest.raises(CatalogueError, match="not signed"):
        read(json.dumps(forged).encode(), identity)
    with pytest.raises(CatalogueError, match="another site"):
        verify_entry(data, identity=identity.public, site="madrid")


def test_a_signature_for_something_else_is_none_for_an_entry(tmp_path, identity):
    envelope = json.loads(publish(small(tmp_path), identity))
    envelope["signature"] = identity.sign(envelope["entry"].encode()).hex()
    with pytest.raises(CatalogueError, match="not signed"):
        read(json.dumps(envelope).encode(), identity)


def signed(identity, text):
    from synthema.catalogue import _LABEL

    return json.dumps(
        {"entry": text, "key": identity.public.hex(), "signature": identity.sign(_LABEL + text.encode()).hex()}
    ).encode()


@pytest.mark.parametrize(
    "change",
    [
        {"patients": {"kind": "exact", "number": 57}},
        {"patients": {"kind": "noisy", "number": -1}},
        {"n": 57},
        {"format": "synthema-catalogue-2"},
        {"schema_hash": "0" * 64},
        {"data_schema": {}},
        {"site": "VIENNA"},
    ],
)
def test_what_is_no_entry_is_refused_even_if_it_is_signed(tmp_path, identity, change):
    body = json.loads(json.loads(publish(small(tmp_path), identity))["entry"]) | change
    with pytest.raises(CatalogueError):
        read(signed(identity, json.dumps(body)), identity)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"\xff", b'{"entry": 3, "key": "", "signature": ""}', b"[" * 100_000, b"x" * 2_000_001]
)
def test_rubbish_is_refused(identity, data):
    with pytest.raises(CatalogueError):
        read(data, identity)


def test_a_charge_without_an_answer_is_not_drawn_again(tmp_path, identity):
    place = small(tmp_path)
    from privacy.mechanisms import noisy_count

    _, event = noisy_count([0], neighbours="add_remove_one", rho=epsilon_to_rho(EPSILON, 1e-6))
    with place.ledger.spend(
        "private",
        event,
        key=f"catalogue/patients/{place.data_version}",
        purpose="catalogue: noisy number of patients",
        data_version=place.data_version,
    ):
        pass
    with pytest.raises(CatalogueError, match="not stored"):
        publish(place, identity)
    with open_ledger(f"sqlite:///{tmp_path}/vienna.db") as ledger:
        assert len(ledger.events("private")) == 1
