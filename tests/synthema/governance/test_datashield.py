"""DataSHIELD's filters, one by one: the default, the rule of ours that keeps it, and what it refuses."""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from governance_cases import ANNA, CURVES, EVERYBODY, MODEL, SCHEMA, SITES, site, study

from smpc import FIELD61, run_local
from synthema.errors import DisclosureRefused, SiteRefused, StudyError
from synthema.governance.datashield import TABLE, Filters, policy_fields
from synthema.governance.policy_file import read_policy
from synthema.learning import dominance, logistic
from synthema.learning.covariates import PARAMETER_RATIO
from synthema.learning.kaplan_meier import GROUP_FACTOR, Grid, open_counts
from synthema.learning.tested_counts import why_not
from synthema.pipeline import run
from synthema.policy import SitePolicy
from synthema.study import Study, Synthesis

# The defaults of dsBase, as its documentation lists them.
DEFAULTS = {
    "nfilter.tab": 3,
    "nfilter.subset": 3,
    "nfilter.glm": 0.33,
    "nfilter.string": 80,
    "nfilter.stringShort": 20,
    "nfilter.kNN": 3,
    "nfilter.noise": 0.25,
    "nfilter.levels.density": 0.33,
    "nfilter.levels.max": 40,
}
PRESET = read_policy(
    {"preset": "datashield", "epsilon_cap": 5.0, "delta_cap": 1e-6, "any_researcher": True}, partners=EVERYBODY
)


def refusal(place, asked) -> str:
    with pytest.raises(SiteRefused) as caught:
        place.accept(asked.signed(ANNA))
    return caught.value.reason


def test_the_table_lists_every_filter_with_its_default():
    assert {each.filter: each.default for each in TABLE} == DEFAULTS
    names = {
        "stringShort": "string_short",
        "kNN": "knn",
        "levels.density": "levels_density",
        "levels.max": "levels_max",
    }
    ours = Filters().model_dump()
    for name, value in DEFAULTS.items():
        short = name.removeprefix("nfilter.")
        assert ours[names.get(short, short)] == value


def test_every_filter_sets_a_rule_of_ours_or_says_why_none_is_needed():
    fields = policy_fields(Filters())
    named = {rule for each in TABLE for rule in each.rules}
    assert named | {"allow_exact"} == set(fields)
    assert named <= set(SitePolicy.__dataclass_fields__)
    for each in TABLE:
        assert each.where
        if not each.rules:
            assert each.where.startswith("no ")


def test_the_preset_sets_datashields_numbers_and_never_less_than_our_floors():
    assert (PRESET.min_cell, PRESET.min_k, PRESET.max_parameter_ratio) == (3, 3, 0.33)
    assert (PRESET.max_text, PRESET.max_level_density, PRESET.max_levels) == (80, 0.33, 40)
    assert PRESET.min_patients == 10
    loose = policy_fields(Filters(tab=1, subset=1, knn=1))
    assert (loose["min_cell"], loose["min_k"], loose["min_patients"]) == (3, 3, 10)
    strict = policy_fields(Filters(tab=7, subset=12))
    assert (strict["min_cell"], strict["min_patients"]) == (12, 12)


def test_a_rule_that_the_site_writes_itself_counts_more_than_the_preset():
    own = read_policy(
        {"preset": "datashield", "epsilon_cap": 1.0, "delta_cap": 1e-6, "min_cell": 8, "allow_exact": False},
        partners=EVERYBODY,
    )
    assert (own.min_cell, own.allow_exact, own.max_levels) == (8, False, 40)
    assert read_policy("datashield", partners=EVERYBODY).preset == "datashield"


# What each filter refuses, where the study's text decides; the others are tested on shares below.
LONG = "a" * 81


def many_levels(n: int) -> dict[str, Any]:
    column = {"role": "sensitive", "categories": [f"c{i:02d}" for i in range(n)]}
    return SCHEMA | {"columns": SCHEMA["columns"] | {"group": column}}


BY_TEXT = {
    "nfilter.tab": ({"filters": {"tab": 6}}, {"exact": CURVES}, {"exact": CURVES | {"min_cell": 6}}),
    "nfilter.subset": ({"filters": {"subset": 6}}, {"exact": CURVES}, {"exact": CURVES | {"min_cell": 6}}),
    "nfilter.glm": ({"filters": {"glm": 0.2}}, {"exact": MODEL}, {"exact": CURVES}),
    "nfilter.levels.density": ({"filters": {"levels_density": 0.3}}, {"exact": MODEL}, {"exact": CURVES}),
    "nfilter.levels.max": (
        {},
        {"study": {"schema": many_levels(41)}, "exact": {"kaplan_meier": {"group": "group", "grid_days": 180}}},
        None,
    ),
    "nfilter.string": (
        {"filters": {"string": 20}},
        {"study": {"name": "a-name-of-more-than-twenty"}},
        {"study": {"name": "short", "purpose": LONG}, "synthesis": {"rows": 5}, "sites": SITES},
    ),
}


@pytest.mark.parametrize("name", BY_TEXT)
def test_what_a_filter_refuses_by_the_studys_text(tmp_path, name):
    change, bad, good = BY_TEXT[name]
    data = {"preset": "datashield", "epsilon_cap": 5.0, "delta_cap": 1e-6, "any_researcher": True} | change
    place = site(tmp_path, policy=read_policy(data, partners=EVERYBODY))
    assert refusal(place, study(**bad)) in ("filters", "exact")
    if good is not None:
        place.consider(study(**good).signed(ANNA))


def test_forty_levels_are_enough_and_forty_one_are_not():
    from synthema.governance.rules import level_rules

    for n, broken in ((40, 0), (41, 1)):
        asked = study(study={"schema": many_levels(n)})
        assert len(list(level_rules(PRESET, asked, ("group",)))) == broken


def test_tab_and_subset_hold_on_shares_for_every_cell_of_a_curve():
    """A death count of 1 or 2 is not opened, nor a group of fewer than 4 x 3 patients."""
    grid = Grid(grid_days=180, n_intervals=2)

    async def protocol(session, x):
        parts = await session.input(x, domain=FIELD61)
        return await open_counts(session, (parts[0] + parts[1]).reshape(2, 3, 2), grid, min_cell=PRESET.min_cell)

    for small in (1, 2, 3):
        deaths = [[small, 20], [3, 3], [10, 10]]
        losses = [[20, 20], [3, 2], [10, 10]]
        counts = np.array([deaths, losses]).ravel()
        groups = run_local(protocol, inputs=[counts, 0 * counts]).results[0]
        assert (groups[0].events[0] >= 0) == (small >= 3)
        # 11 patients in the second group: fewer than 12.
        assert (groups[1].events < 0).all()
        assert (groups[1].at_risk < 0).all()
    assert GROUP_FACTOR * PRESET.min_cell >= DEFAULTS["nfilter.subset"]


@pytest.mark.parametrize("n_coefficients", [2, 5])
def test_glm_holds_on_shares_for_both_outcomes_and_opens_no_count(n_coefficients):
    """p <= 0.33 n, for those with the outcome and for those without: stricter than for n."""

    async def protocol(session, x):
        parts = await session.input(x, domain=FIELD61)
        counts = parts[0] + parts[1]
        return await why_not(session, counts, family=logistic.FAMILY, n_coefficients=n_coefficients, min_cell=3)

    for events in range(2 * n_coefficients, 4 * n_coefficients + 1):
        for counts in ([events, 500, 250, 250, events, 0], [500, events, 250, 250, events, 0]):
            reason = run_local(protocol, inputs=[np.array(counts), np.zeros(6, dtype=int)]).results[0]
            assert bool(reason) == (n_coefficients > DEFAULTS["nfilter.glm"] * events)
            assert str(events) not in reason or str(events) == str(int(np.ceil(n_coefficients / 0.33)))


def test_a_category_per_patient_is_refused_by_the_coefficients_on_shares(tmp_path):
    """levels.density: 20 categories over a few dozen patients; the model is stopped, the count is not told."""
    n = 20
    from governance_cases import frame

    from privacy import Schema
    from privacy.ledger import open_ledger
    from synthema.site import Site

    schema = many_levels(n)
    exact = {"logistic": {"horizon_days": 180, "covariates": ["age", "group"]}, "min_cell": 3}
    asked = study(study={"schema": schema}, exact=exact, synthesis=None)
    places = {}
    for name in SITES:
        table = frame(name, 20)
        table["group"] = [f"c{i:02d}" for i in range(20)]
        places[name] = Site(
            name,
            table,
            Schema.from_dict(schema),
            ledger=open_ledger(f"sqlite:///{tmp_path}/{name}.db", site=name),
            policy=PRESET,
            secret=b"s" * 32,
        )
    with pytest.raises(DisclosureRefused) as caught:
        run(asked.signed(ANNA), places, folder=tmp_path)
    assert "60" not in str(caught.value)


def test_no_short_free_text_exists_methods_are_chosen_from_lists():
    """stringShort: every choice is a word of a fixed list, short enough, and nothing else is a study."""
    choices = [str(word) for word in get_args(Synthesis.model_fields["mechanism"].annotation)]
    assert choices
    assert max(map(len, choices)) <= DEFAULTS["nfilter.stringShort"]
    with pytest.raises(StudyError):
        study(synthesis={"rows": 5, "mechanism": "list.files('/')"})


def test_nothing_that_a_study_may_ask_for_is_a_scatter_plot_or_a_noisy_value():
    """kNN and noise guard results that no study has: its sections are these, and unknown ones are refused."""
    assert {"overlap", "anonymise", "exact", "synthesis"} <= set(Study.model_fields)
    for unknown in ("scatter", "heatmap", "subset", "filter"):
        data = json.loads(study().document())
        del data["format"]
        with pytest.raises(StudyError):
            study(**{unknown: {"x": "age"}})


def test_the_policy_asks_for_no_less_than_the_protocols_keep():
    assert PRESET.max_parameter_ratio >= PARAMETER_RATIO
    assert PRESET.dominance >= dominance.LARGEST_PART


def test_the_page_lists_the_same_filters_values_and_rules():
    page = (Path(__file__).parents[3] / "docs" / "federation" / "policy.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| nfilter.")]
    assert {row[0]: float(row[1]) for row in rows} == DEFAULTS
    for row, each in zip(rows, TABLE, strict=True):
        assert row[0] == each.filter
        assert all(rule in row[2] for rule in each.rules)
        assert (row[2] == "none") == (not each.rules)
