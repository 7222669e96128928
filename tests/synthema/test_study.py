import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy import SchemaError
from synthema.demo import demo_study
from synthema.errors import SignatureInvalid, StudyError
from synthema.signing import SignedDocument, Signer, canonical_json
from synthema.study import Study

SMALL = {
    "study": {
        "name": "pilot",
        "purpose": "age and sex",
        "schema": {
            "table": {"patient_id": "id"},
            "columns": {
                "id": {"role": "identifier"},
                "sex": {"role": "quasi-identifier", "categories": ["F", "M"]},
                "time": {"kind": "integer", "bounds": [0, 100]},
                "event": {"categories": ["0", "1"]},
            },
            "survival": {"time": "time", "event": "event"},
        },
    },
    "budget": {"epsilon": 1.0, "delta": 1e-6},
    "sites": {"vienna": {}, "madrid": {}, "milan": {}},
}


def changed(**sections) -> dict:
    return SMALL | sections


def test_the_document_reads_back_to_the_same_bytes():
    for study in (demo_study(), Study.from_dict(SMALL)):
        assert Study.from_document(study.document()).document() == study.document()


def test_the_document_says_nothing_about_files_and_policies():
    body = json.loads(demo_study().document())
    assert body["sites"] == ["alder", "birch", "cedar", "hazel", "rowan"]
    assert b"policy" not in demo_study().document()


@pytest.mark.parametrize("epsilon", [0, -1.0, float("nan"), float("inf"), 1e9, "3"])
def test_an_epsilon_that_is_no_budget_is_refused(epsilon):
    with pytest.raises(StudyError, match=r"budget\.epsilon"):
        Study.from_dict(changed(budget={"epsilon": epsilon, "delta": 1e-6}))


@pytest.mark.parametrize("delta", [0.0, -1e-9, 0.5, float("nan")])
def test_a_delta_that_is_no_budget_is_refused(delta):
    with pytest.raises(StudyError, match=r"budget\.delta"):
        Study.from_dict(changed(budget={"epsilon": 1.0, "delta": delta}))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"federation": {"compute_parties": ["paris", "milan"]}}, "no site of this study"),
        ({"federation": {"compute_parties": ["milan", "milan"]}}, "named twice"),
        ({"federation": {"compute_parties": ["milan"]}}, "2 to 5"),
        ({"federation": {"collusion_threshold": 3}}, "below the number of compute parties"),
        ({"federation": {"collusion_threshold": 0}}, "collusion_threshold"),
        ({"sites": {"vienna": {}}}, "sites"),
        ({"sites": {"Vienna!": {}, "milan": {}}}, "sites"),
        ({"overlap": {"n_buckets": 1000000}}, "power of two"),
        ({"overlap": {"n_buckets": 1024}}, "n_buckets"),
        ({"overlap": {"budget_share": 1e-12}}, "budget_share"),
        ({"synthesis": {"columns": ["nowhere"]}}, "not in the schema"),
        ({"synthesis": {"columns": ["id"]}}, "no public list of codes"),
        ({"exact": {"kaplan_meier": {"group": "time", "grid_days": 180}}}, "categories"),
        ({"exact": {"min_cell": 1}}, "min_cell"),
        ({"surprise": {}}, "surprise"),
    ],
)
def test_an_inconsistent_study_says_what_is_wrong(sections, message):
    with pytest.raises(StudyError, match=message):
        Study.from_dict(changed(**sections))


def test_a_study_needs_a_schema_and_a_readable_file(tmp_path):
    with pytest.raises(StudyError, match="schema"):
        Study.from_dict({"study": {"name": "x", "purpose": "none"}})
    (tmp_path / "study.toml").write_text("[study", encoding="utf-8")
    with pytest.raises(StudyError, match=r"study\.toml"):
        Study.load(tmp_path / "study.toml")
    with pytest.raises(StudyError, match="cannot be read"):
        Study.load(tmp_path / "none.toml")
    with pytest.raises(SchemaError):
        Study.from_dict(changed(study=SMALL["study"] | {"schema": {"columns": {"a": {"kind": "integer"}}}}))


def test_a_flipped_bit_anywhere_breaks_the_signature():
    document = Study.from_dict(SMALL).signed(Signer())
    document.verify()
    for position in range(0, len(document.body), 37):
        body = bytearray(document.body)
        body[position] ^= 1
        with pytest.raises(SignatureInvalid):
            SignedDocument(bytes(body), document.public_key, document.signature).verify()
    for position in range(64):
        signature = bytearray(document.signature)
        signature[position] ^= 1
        with pytest.raises(SignatureInvalid):
            SignedDocument(document.body, document.public_key, bytes(signature)).verify()
    with pytest.raises(SignatureInvalid):
        SignedDocument(document.body, Signer().public_key, document.signature).verify()
    with pytest.raises(SignatureInvalid):
        SignedDocument(document.body, "no key", document.signature).verify()


def test_a_signer_shows_its_public_half_only():
    key = Ed25519PrivateKey.generate()
    signer = Signer(key)
    assert signer.public_key in repr(signer)
    assert key.private_bytes_raw().hex() not in repr(signer)


def test_the_job_id_depends_on_the_text_alone():
    study = Study.from_dict(SMALL)
    assert study.signed(Signer()).document_id == study.signed(Signer()).document_id
    other = Study.from_dict(changed(budget={"epsilon": 1.5, "delta": 1e-6}))
    assert other.signed(Signer()).document_id != study.signed(Signer()).document_id


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"format":"synthema-study-v9"}'])
def test_bytes_that_are_no_study_are_refused(body):
    with pytest.raises(StudyError):
        Study.from_document(body)


def test_canonical_json_refuses_nan():
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"x": float("nan")})
