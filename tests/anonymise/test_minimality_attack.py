"""The minimality attack: who knows the quasi-identifiers infers sensitive values from what was *not* released finer.

The attacker reads the release, knows the algorithm and, from a register, who is in the table with which
quasi-identifiers (k-anonymity itself assumes that). He tries every assignment of the released values and keeps those
with this release.

Source: Wong, Fu, Wang, Pei 2007, VLDB, "Minimality attack in privacy preserving data publishing".
"""

import itertools
from collections import Counter

import pandas as pd
import pytest

from anonymise import KAnonymity, LDiversity, Schema, anonymise

pytestmark = pytest.mark.filterwarnings("ignore::anonymise.AttackableRelease")
SCHEMA = Schema.from_dict(
    {
        "columns": {
            "age": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 19], "hierarchy": {"interval": [10]}},
            "site": {"role": "quasi-identifier", "categories": ["Graz", "Linz"]},
            "status": {"role": "sensitive", "categories": ["HIV", "hepatitis", "none", "other"]},
        }
    }
)
# At each site, two patients of 1 and three of 9 years. The two have the same status, so they cannot be a class.
AGES = (1, 1, 9, 9, 9)
VALUES = {"Graz": ("HIV", "HIV", "hepatitis", "none", "other"), "Linz": ("none", "none", "HIV", "hepatitis", "other")}
SITES = {"both": ("Graz", "Linz"), "Graz alone": ("Graz",)}


def table(status):
    rows = [(age, site, value) for site, values in status.items() for age, value in zip(AGES, values, strict=True)]
    return pd.DataFrame(rows, columns=["age", "site", "status"])


def release(status, algorithm):
    models = [KAnonymity(2), LDiversity(2, attribute="status")]
    return anonymise(table(status), SCHEMA, models=models, algorithm=algorithm).table


def plausible(sites, algorithm):
    """Return the values that a patient of 1 year in Graz can have, by the attacker's enumeration."""
    truth = {site: VALUES[site] for site in sites}
    seen = Counter(release(truth, algorithm).itertuples(index=False, name=None))
    # How the values of a class are spread over its two ages: which two of them the younger have.
    spreads = {
        site: {(*young, *sorted((Counter(values) - Counter(young)).elements())) for young in _pairs(values)}
        for site, values in truth.items()
    }
    out = set()
    for spread in itertools.product(*spreads.values()):
        guess = dict(zip(spreads, spread, strict=True))
        if Counter(release(guess, algorithm).itertuples(index=False, name=None)) == seen:
            out |= set(guess["Graz"][:2])
    return out


def _pairs(values):
    return set(itertools.combinations(sorted(values), 2))


def test_mondrian_betrays_each_class_that_it_did_not_cut():
    # The release shows four values in a class of five; the attacker is left with one.
    for sites in SITES.values():
        assert plausible(sites, "mondrian") == {"HIV"}


def test_one_generalisation_for_all_says_only_that_some_class_failed():
    assert plausible(SITES["both"], "optimal") == {"HIV", "hepatitis", "none", "other"}


def test_where_only_one_class_can_have_failed_the_default_betrays_it_too():
    assert plausible(SITES["Graz alone"], "optimal") == {"HIV"}
