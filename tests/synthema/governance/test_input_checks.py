"""A site asks that what the others share is checked, where a mechanism chooses by comparing it."""

import dataclasses

import pytest
from governance_cases import ANNA, BASE, NOW, study

from synthema.governance.history import History
from synthema.governance.rules import Asked, broken_rules
from synthema.policy import SitePolicy

POLICY = dataclasses.replace(BASE, approximate_delta=1e-9)


def reasons(policy, mechanism, check):
    asked = study(synthesis={"rows": 50, "mechanism": mechanism, "input_check": check})
    about = Asked(asked, ANNA.public_key, "ab" * 32, "version")
    return {reason for reason, _ in broken_rules(policy, about, site="vienna", history=History(), now=NOW)}


@pytest.mark.parametrize("mechanism", ["mst", "aim", "privbayes", "adaptive"])
def test_a_researcher_cannot_have_the_checks_left_out(mechanism):
    assert reasons(POLICY, mechanism, "none") == {"collusion"}
    assert reasons(POLICY, mechanism, "totals") == {"collusion"}
    assert reasons(POLICY, mechanism, "full") == reasons(POLICY, mechanism, "auto") == set()


def test_sums_alone_need_none():
    for check in ("none", "totals", "full", "auto"):
        assert reasons(POLICY, "chow-liu", check) == reasons(POLICY, "independent", check) == set()


def test_a_site_may_trust_the_others():
    for level, allowed in (("none", {"none", "totals", "full"}), ("totals", {"totals", "full"}), ("full", {"full"})):
        policy = dataclasses.replace(POLICY, min_input_check=level)
        assert {check for check in ("none", "totals", "full") if not reasons(policy, "mst", check)} == allowed
    assert SitePolicy(1.0, 1e-6).min_input_check == "full"
