"""Release policies: what they hold, refuse and reproduce."""

import json

import pytest
from clinic_files import SCHEMA, anonymise, rows, write_clinic

from anonymise import (
    KAnonymity,
    Schema,
)
from anonymise import anonymise as anonymised
from synthema.errors import PolicyError
from synthema.release_policy import ReleasePolicy
from synthema.tables import read_table


@pytest.fixture
def folder(tmp_path):
    return write_clinic(tmp_path)


def test_a_saved_policy_gives_the_same_release_from_anywhere(folder, monkeypatch):
    (folder / "kept").mkdir()
    by = ("--k", 3, "--t", "0.45:diagnosis", "--l", "2:diagnosis:entropy", "--suppression", 0.2)
    policy = folder / "kept" / "policy.toml"
    one = json.loads(anonymise(folder, "--save-policy", policy, "--json", out="1.csv", by=by).stdout)
    monkeypatch.chdir("/")
    two = json.loads(anonymise(folder, "--policy", policy, "--json", out="2.csv").stdout)
    for name in ("node", "score", "suppressed", "optimal", "gap", "models", "policy_sha256", "quality"):
        assert one[name] == two[name], name
    assert len(one["models"]) == 3
    assert rows(folder / "1.csv") == rows(folder / "2.csv")


def test_weights_factor_and_target_reach_the_search_and_the_policy(folder):
    schema = Schema.load(folder / "schema.toml")
    by = {"weights": {"age": 3.0, "sex": 0.5}, "suppression_factor": 0.4}
    models = {"models": [KAnonymity(5)], "suppression_limit": 0.1}
    expected = anonymised(read_table(folder / "in.csv", schema), schema, **models, **by)
    words = ("--k", 5, "--suppression", 0.1, "--weights", "age=3,sex=.5", "--suppression-factor", 0.4)
    told = anonymise(folder, "--save-policy", folder / "policy.toml", "--json", by=words)
    again = anonymise(folder, "--policy", folder / "policy.toml", "--json", out="again.csv")
    for one in (told, again):
        assert json.loads(one.stdout)["score"] == pytest.approx(expected.score, abs=1e-12)
    anonymise(folder, "--quality", "classification", "--target", "diagnosis", out="predicts.csv")
    refused = anonymise(folder, "--weights", "age", out="refused.csv", code=2)
    assert "--weights takes COLUMN=NUMBER" in refused.stderr


def test_a_policy_is_not_mixed_with_options_and_holds_its_schema(folder):
    policy = folder / "policy.toml"
    anonymise(folder, "--save-policy", policy)
    assert "says it all" in anonymise(folder, "--policy", policy, "--k", 2, out="2.csv", code=2).stderr
    assert "says it all" in anonymise(folder, "--policy", policy, "--suppression", 0, out="2.csv", code=2).stderr
    (folder / "schema.toml").write_text(SCHEMA.replace("[10, 50]", "[20, 50]"))
    assert "schema.toml is not what" in anonymise(folder, "--policy", policy, out="2.csv", code=2).stderr
    assert not (folder / "2.csv").exists()


BASE = {"version": 1, "schema": {"file": "schema.toml"}, "models": [{"model": "k-anonymity", "k": 5}]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "version must be 1"),
        ({"models": []}, "models"),
        ({"release": {"suppresion_limit": 0.1}}, "suppresion_limit"),
        ({"release": {"suppression_limit": "much"}}, "suppression_limit"),
        ({"models": [{"model": "l-diversity", "l": 2}]}, "needs attribute"),
        ({"schema": {}}, "schema.file"),
        ({"seed": 1}, "seed"),
    ],
)
def test_a_file_that_is_no_policy_is_refused(change, said):
    with pytest.raises(PolicyError, match=said):
        ReleasePolicy.from_dict(BASE | change)


def test_the_policys_hash_is_of_what_it_says_and_not_of_where_it_lies(folder):
    schema = Schema.load(folder / "schema.toml")

    def digest(**change):
        return ReleasePolicy.from_dict(BASE | change).content_hash(schema)

    k, l = BASE["models"][0], {"model": "l-diversity", "l": 2, "attribute": "diagnosis"}
    assert digest() == digest(schema={"file": "elsewhere.toml"}) == digest(release={"suppression_limit": 0.0})
    assert digest(models=[k, l]) == digest(models=[{**l, "kind": "distinct"}, k])
    changes = [
        {},
        {"models": [k, l]},
        {"models": [{"model": "k-anonymity", "k": 6}]},
        {"release": {"suppression_limit": 0.1}},
        {"release": {"static": ["sex"]}},
        {"population": {"file": "people.csv"}},
        {"context": {"recipient": "a registry"}},
    ]
    assert len({digest(**change) for change in changes}) == len(changes)
    other = Schema.from_dict(schema.to_dict() | {"table": {"name": "other"}})
    assert ReleasePolicy.from_dict(BASE).content_hash(other) != digest()


def test_a_policy_reads_back_what_it_wrote(folder):
    policy = ReleasePolicy.from_dict(
        BASE
        | {
            "models": [
                {"model": "l-diversity", "l": 2, "attribute": ["diagnosis", "sex"], "kind": "recursive", "c": 1.5}
            ],
            "release": {"suppression_limit": 0.05, "static": ["sex"]},
            "context": {"recipient": 'the "registry"', "purpose": "a study"},
        }
    )
    (folder / "p.toml").write_text(policy.to_toml())
    assert ReleasePolicy.load(folder / "p.toml") == policy
