"""Exact releases that differ a little are a difference of patients: shown to work without the rule, refused with it."""

import itertools

import pytest
from governance_cases import ANNA, BELA, CURVES, EVERYBODY, MODEL, SCHEMA, frame, site, study

from synthema.errors import SiteRefused
from synthema.governance.families import family_of
from synthema.pipeline import run
from synthema.site import EXACT_ACCOUNT

FOUR = ("vienna", "madrid", "milan", "paris")
RULES = {"epsilon_cap": 50.0, "allow_exact": True, "min_grid_days": 30, "partners": EVERYBODY}
# Curves alone: the least that shows a difference.
CURVE_STUDY = {"exact": CURVES, "synthesis": None}
PATIENTS = 300


def sites(folder, names=FOUR, **changes):
    folder.mkdir(exist_ok=True)
    return {name: site(folder, name, table=frame(name, PATIENTS), **(RULES | changes)) for name in names}


def conduct(asked, places, folder, signer=ANNA):
    return run(asked.signed(signer), places, folder=folder)


def curves(outcome):
    return {curve.group: curve.steps for curve in outcome.released.survival}


def test_without_the_rule_the_same_curve_with_one_site_fewer_tells_that_sites_patients(tmp_path):
    """The negative control: two ledgers that do not know of each other, so nothing is refused."""
    all_four = curves(conduct(study(sites=FOUR, **CURVE_STUDY), sites(tmp_path / "a"), tmp_path))
    three = curves(conduct(study(sites=FOUR[:3], **CURVE_STUDY), sites(tmp_path / "b", FOUR[:3]), tmp_path))
    paris = frame("paris", PATIENTS)
    told = []
    for group, with_paris in all_four.items():
        own = paris[paris["sex"] == group.removeprefix("sex = ")]
        for step, fewer in zip(with_paris, three[group], strict=True):
            if step.events is not None and fewer.events is not None:
                died = own[(own["event"] == "1") & (own["time"] > step.start_day) & (own["time"] <= step.end_day)]
                told.append((step.events - fewer.events, len(died)))
    assert len(told) >= 4, "the attack must have something to show"
    assert all(difference == deaths for difference, deaths in told)


def test_the_same_exact_study_again_gives_the_stored_answer_and_opens_nothing(tmp_path):
    asked = study(sites=FOUR, **CURVE_STUDY)
    first = conduct(asked, sites(tmp_path / "a"), tmp_path)
    entries = {name: len(place.ledger.entries()) for name, place in sites(tmp_path / "a").items()}
    # The name, the purpose, the order of the sites and who computes make no difference to what is opened.
    again = study(
        sites=FOUR[::-1],
        study={"name": "another-name", "purpose": "something else"},
        federation={"compute_parties": list(FOUR[1:3])},
        **CURVE_STUDY,
    )
    places = sites(tmp_path / "a")
    assert conduct(again, places, tmp_path, BELA).released.survival == first.released.survival
    assert {name: len(place.ledger.entries()) for name, place in places.items()} == entries


def test_every_other_set_of_sites_is_refused_and_named_as_a_difference(tmp_path):
    """The attack, enumerated: all sets of sites with Vienna in them, after one of them made its release."""
    names = sorted(EVERYBODY - {"vienna"})
    sets = [("vienna", *rest) for n in range(2, 5) for rest in itertools.combinations(names, n)]
    place = site(tmp_path, table=frame("vienna", PATIENTS), **RULES)
    _answer(place, study(sites=FOUR, **CURVE_STUDY))
    refused = 0
    for members in sets:
        asked = study(sites=members, study={"name": "another"}, **CURVE_STUDY)
        if set(members) == set(FOUR):
            assert place.accept(asked.signed(ANNA)).stored("kaplan-meier") == {"answer": "kaplan-meier"}
            continue
        refused += 1
        with pytest.raises(SiteRefused, match="a site fewer or more can be subtracted") as caught:
            place.accept(asked.signed(ANNA))
        assert caught.value.reason == "exact-again"
    assert refused == len(sets) - 1 == 10


def _answer(place, asked):
    """Let a study's exact steps be made, as far as this site's ledger is concerned."""
    job = place.accept(asked.signed(ANNA))
    for step in job.steps:
        job.start(step)
        job.settle(step, {"answer": step})
    return job


WARD = {"role": "sensitive", "categories": ["a", "b"]}
WITH_WARD = {"study": {"name": "another", "schema": SCHEMA | {"columns": SCHEMA["columns"] | {"ward": WARD}}}}
CHANGES = {
    "grid": {"exact": {"kaplan_meier": {"group": "sex", "grid_days": 90}}},
    "group": WITH_WARD | {"exact": {"kaplan_meier": {"group": "ward", "grid_days": 180}}},
    "least cell": {"exact": CURVES | {"min_cell": 6}},
    "a model beside": {"exact": CURVES | MODEL},
    "another model": {"exact": {"logistic": {"horizon_days": 181, "covariates": ["age", "sex"]}}},
    "a table beside": {"anonymise": {"k": 5}},
    "schema": {"study": {"name": "another", "schema": SCHEMA | {"table": {"name": "registry-2", "patient_id": "id"}}}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_exact_release_of_the_table_is_refused_whatever_differs(tmp_path, change):
    place = site(tmp_path, table=frame("vienna", PATIENTS), **RULES)
    _answer(place, study(**CURVE_STUDY))
    other = study(**(CURVE_STUDY | {"study": {"name": "another"}} | CHANGES[change]))
    assert family_of(other).content != family_of(study(**CURVE_STUDY)).content
    with pytest.raises(SiteRefused) as caught:
        place.accept(other.signed(ANNA))
    assert caught.value.reason == "exact-again"


def test_another_group_alone_is_a_difference():
    by_sex, by_ward = study(**(CURVE_STUDY | WITH_WARD)), study(**(CURVE_STUDY | CHANGES["group"]))
    assert by_sex.data_schema == by_ward.data_schema
    assert family_of(by_sex).content != family_of(by_ward).content


def test_other_rows_are_a_difference_too(tmp_path):
    _answer(site(tmp_path, table=frame("vienna", PATIENTS), **RULES), study(**CURVE_STUDY))
    one_more = site(tmp_path, table=frame("vienna", PATIENTS + 1), **RULES)
    with pytest.raises(SiteRefused) as caught:
        one_more.accept(study(study={"name": "another"}, **CURVE_STUDY).signed(ANNA))
    assert caught.value.reason == "exact-again"
    assert "other rows" in caught.value.explanation
    with pytest.raises(SiteRefused) as caught:
        one_more.accept(study(**CURVE_STUDY).signed(ANNA))
    assert caught.value.reason == "data-changed"


def test_what_was_begun_and_not_finished_is_not_begun_again(tmp_path):
    place = site(tmp_path, table=frame("vienna", PATIENTS), **RULES)
    job = place.accept(study(**CURVE_STUDY).signed(ANNA))
    job.start("kaplan-meier")
    job.abandon()
    with pytest.raises(SiteRefused) as caught:
        place.accept(study(study={"name": "another"}, **CURVE_STUDY).signed(ANNA))
    assert caught.value.reason == "exact-again"
    assert "not begun again" in caught.value.explanation


def test_what_was_given_back_before_it_began_stands_in_nobodys_way(tmp_path):
    place = site(tmp_path, table=frame("vienna", PATIENTS), **RULES)
    place.accept(study(**CURVE_STUDY).signed(ANNA)).abandon()
    place.accept(study(**(CURVE_STUDY | {"exact": CURVES | {"min_cell": 6}})).signed(ANNA))


def test_a_release_that_an_operator_made_alone_is_a_difference_as_well(tmp_path):
    from synthema.exact_release import recorded

    place = site(tmp_path, table=frame("vienna", PATIENTS), **RULES)
    with recorded(place.ledger, EXACT_ACCOUNT, what="a table", purpose="local", table="registry", key=None):
        pass
    with pytest.raises(SiteRefused) as caught:
        place.accept(study(**CURVE_STUDY).signed(ANNA))
    assert caught.value.reason == "exact-again"


def test_private_releases_are_free_to_vary_and_the_ledger_pays_for_each(tmp_path):
    place = site(tmp_path, table=frame("vienna", PATIENTS), **RULES)
    _answer(place, study(exact=CURVES))
    spent = place.ledger.remaining("private").rho_spent
    # The same exact part with another budget, and other sites without an exact part.
    job = place.accept(study(exact=CURVES, epsilon=0.7).signed(ANNA))
    assert job.stored("kaplan-meier") == {"answer": "kaplan-meier"}
    assert job.stored("marginals") is None
    job.start("marginals")
    assert place.ledger.remaining("private").rho_spent > spent
    for members in (FOUR, ("vienna", "madrid"), ("vienna", "graz", "milan")):
        place.accept(study(sites=members).signed(ANNA))
    assert len(place.exact_releases()) == 1
