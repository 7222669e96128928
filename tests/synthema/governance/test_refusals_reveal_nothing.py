"""Every refusal, over random tables: its words depend on public things alone."""

import dataclasses
import shutil
from datetime import timedelta

import numpy as np
import pytest
from governance_cases import ANNA, BELA, CURVES, MODEL, NOW, SCHEMA, Clock, frame, site, study

from generators.tuples import encode_tuples
from synthema.agent.queue import ApprovalQueue, QueueApproval
from synthema.errors import SiteRefused
from synthema.governance import rules
from synthema.governance.refusals import OPERATOR_SENTENCES, REASONS
from synthema.governance.terms import Researcher, Terms, Window
from synthema.intake import CountedData
from synthema.signing import SignedDocument
from synthema.site import Site

TABLES = 2
FEWEST, MOST = 20, 90


def other_schema():
    return SCHEMA | {"columns": SCHEMA["columns"] | {"sex": {"role": "quasi-identifier", "categories": ["M", "F"]}}}


def forged(document):
    return SignedDocument(document.body + b" ", document.public_key, document.signature)


def nonsense(_document):
    return ANNA.sign(b'{"format":"synthema-study-v1"}')


# reason -> what the policy says, what is asked, how the document is changed, and what the site did before
EXACT = {"allow_exact": True}
CASES = {
    "signature": ({}, {}, forged, None),
    "researcher": ({"listed": (Researcher("Bela", BELA.public_key),)}, {}, None, None),
    "purpose": ({"terms": Terms(purposes=("nothing",))}, {}, None, None),
    "algorithm": ({"terms": Terms(algorithms=("overlap",))}, {}, None, None),
    "window": ({"terms": Terms(window=Window(valid_until=NOW.date() - timedelta(days=9)))}, {}, None, None),
    "clock": ({}, {}, None, "clock"),
    "rate": ({"terms": Terms(jobs_per_day=1)}, {}, None, "other"),
    "document": ({}, {}, nonsense, None),
    "not-a-member": ({}, {"sites": ("madrid", "milan", "paris")}, None, None),
    "partners": ({"partners": frozenset({"madrid"})}, {}, None, None),
    "schema": ({}, {"study": {"schema": other_schema()}}, None, None),
    "cohort": ({"min_patients": 1000}, {}, None, None),
    "collusion": ({"min_collusion_threshold": 2}, {}, None, None),
    "overlap": ({"require_overlap_check": True}, {}, None, None),
    "exact": ({}, {"exact": CURVES}, None, None),
    "exact-again": (EXACT, {"exact": CURVES}, None, "exact"),
    "filters": (EXACT | {"dominance": 0.5}, {"exact": MODEL}, None, None),
    "budget": ({}, {"epsilon": 6.0}, None, None),
    "researcher-budget": ({"terms": Terms(epsilon_cap=0.1)}, {}, None, None),
    "spent": ({}, {}, None, "begun"),
    "data-changed": ({}, {}, None, "other rows"),
    "ledger": ({}, {}, None, "closed"),
    "rows": ({"allow_exact": True}, {"exact": CURVES}, None, "counted"),
}


def refuse(folder, reason, table) -> SiteRefused:
    policy, sections, change, before = CASES[reason]
    asked = study(**sections)
    clock = Clock() if before is None else None
    place = site(folder, table=table, clock=clock, **policy)
    if before == "other":
        place.accept(study(study={"name": "other"}).signed(ANNA))
    elif before == "exact":
        place.accept(study(exact=CURVES | {"min_cell": 7}).signed(ANNA))
    elif before == "begun":
        job = place.accept(asked.signed(ANNA))
        job.start("marginals")
        job.abandon()
    elif before == "other rows":
        place.accept(asked.signed(ANNA))
        place = site(folder, table=table.iloc[:-1], **policy)
    elif before == "clock":
        place = site(folder, table=table, clock=Clock(NOW - timedelta(days=9000)), **policy)
    elif before == "counted":
        place.data = CountedData(encode_tuples(table, place.schema))
    elif before == "closed":
        place.ledger.record_data(place.data_version, change="erasure", reason="a test")
    document = asked.signed(ANNA)
    with pytest.raises(SiteRefused) as caught:
        place.accept(document if change is None else change(document))
    place.ledger.close()
    return caught.value


def tables():
    rng = np.random.default_rng(20260301)
    return [frame("vienna", int(rng.integers(FEWEST + 1, MOST)), seed) for seed in range(TABLES)]


def words(folder, reason) -> set[tuple[str, str, str]]:
    found = set()
    for number, table in enumerate(tables()):
        place = folder / f"{reason}-{number}"
        place.mkdir()
        refused = refuse(place, reason, table)
        found.add((refused.reason, refused.explanation, str(refused)))
        shutil.rmtree(place)
    return found


def test_the_cases_are_all_the_reasons_there_are():
    assert {*CASES, "operator", "site"} == set(REASONS)


@pytest.mark.parametrize("reason", CASES)
def test_a_refusal_has_the_same_words_for_every_table(tmp_path, reason):
    found = words(tmp_path, reason)
    assert len(found) == 1
    assert found.pop()[0] == reason


def test_a_rule_that_told_something_would_be_found(tmp_path, monkeypatch):
    """The negative control: a rule that counts rows has as many sentences as there are tables."""
    original = Site._considered

    def leaky(self, document):
        asked = original(self, document)
        raise self._no("cohort", f"the site has {len(self.rows)} patients for {asked.study.name}")

    monkeypatch.setattr(Site, "_considered", leaky)
    monkeypatch.setitem(CASES, "cohort", ({}, {}, None, None))
    assert len(words(tmp_path, "cohort")) > 1


def test_rules_never_see_rows():
    """What decides, but for the cohort and the schema, is given no table at all."""
    names = {field.name for field in dataclasses.fields(rules.Asked)}
    assert names == {"study", "researcher", "job_id", "data_version"}


def test_an_operators_refusal_is_one_of_a_few_sentences_and_the_note_stays(tmp_path):
    with ApprovalQueue(tmp_path / "queue.db") as queue:
        policy = site(tmp_path).policy
        for number, reason in enumerate(OPERATOR_SENTENCES):
            approval = QueueApproval(queue, "vienna", policy)
            job = f"{number:064x}"
            assert approval.ask(job, study(), ANNA.public_key) == "waiting"
            approval.note(job, "waiting")
            queue.refuse(job, by="Dr. Huber", reason=reason, note="only 7 patients have it")
            assert approval.ask(job, study(), ANNA.public_key) == "refused"
            assert approval.refusal(job) == (reason, OPERATOR_SENTENCES[reason])
            assert "7" not in "".join(approval.refusal(job))
