"""The life of a job against a model that only counts: every order of events, repetitions and strangers included."""

import pytest
from hubs import study, submission
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from synthema.hub import jobs
from synthema.hub.jobs import NotPossible
from synthema.messages import Decision, Outcome, Status
from synthema.submission import Submission

SITES = ("a", "b", "c")
ROLES = {**dict.fromkeys((*SITES, "outsider"), "site"), "dora": "dealer", "rosa": "researcher"}
ASKED = (*SITES, "dora")
DOCUMENT = study("a study")
JOB = Submission.decode(DOCUMENT).job_id


def head(**changes):
    return submission(DOCUMENT, SITES, ("b", "c"), dealer="dora", **changes)


def submit(before=None, now=0.0, **changes):
    return jobs.submitted(head(**changes), researcher="rosa", roles=ROLES, before=before, now=now)


def decide(job, site, what, attempt=1, now=1.0):
    said = Decision(job=JOB, attempt=attempt, decision=what, reason="budget" if what == "refused" else "")
    return jobs.decided(job, site, said, now=now)


def finish(job, sender, state, attempt=1, **more):
    return jobs.finished(job, sender, Outcome(job=JOB, attempt=attempt, state=state, **more))


def running():
    job, _ = submit()
    for name in ASKED:
        job, sends = decide(job, name, "accepted")
    return job, sends


def told(sends):
    return {send.to: send.head.kind for send in sends}


def test_all_accept_then_all_who_take_part_start_and_the_lead_ends_it():
    job, sends = submit()
    assert told(sends) == dict.fromkeys(ASKED, "offer")
    assert all(send.has_document for send in sends)
    job, sends = running()
    assert (job.phase, job.deadline) == ("running", 61.0)
    assert told(sends) == dict.fromkeys((*SITES, "dora"), "start")
    job, sends = finish(job, "a", "done")
    assert (job.phase, sends) == ("running", ())
    job, sends = finish(job, "b", "done")
    assert job.phase == "done"
    assert told(sends) == dict.fromkeys(("a", "c", "dora"), "outcome")


def test_one_refusal_cancels_the_others():
    job, _ = decide(submit()[0], "a", "accepted")
    job, sends = decide(job, "b", "refused")
    assert (job.phase, job.ending.site, job.ending.error) == ("refused", "b", "budget")
    assert told(sends) == dict.fromkeys(("a", "c", "dora"), "cancel")
    assert decide(job, "c", "accepted") == (job, ())


def test_a_site_may_take_its_word_back_until_the_start():
    job, _ = decide(submit()[0], "a", "accepted")
    job, _ = decide(job, "a", "waiting")
    for name in ("b", "c", "dora"):
        job, sends = decide(job, name, "accepted")
    assert (job.phase, sends) == ("offered", ())
    assert decide(job, "a", "accepted")[0].phase == "running"


def test_a_deadline_names_who_is_missing():
    job, _ = decide(submit()[0], "a", "accepted")
    job, _ = decide(job, "b", "waiting")
    assert jobs.expired(job, now=59.9) == (job, ())
    late, sends = jobs.expired(job, now=60.0)
    assert (late.phase, late.ending.error, late.ending.site) == ("failed", "no-decision", "b")
    assert told(sends) == dict.fromkeys(ASKED, "cancel")
    late, sends = jobs.expired(running()[0], now=61.0)
    assert (late.phase, late.ending.error, late.ending.site) == ("failed", "no-outcome", "b")
    assert told(sends) == dict.fromkeys((*SITES, "dora"), "cancel")


def test_a_failure_names_the_site_that_is_to_blame_or_else_who_reports_it():
    job, sends = finish(running()[0], "a", "failed", error="SiteSilent", site="c", step="marginals")
    assert (job.phase, job.ending.site, job.ending.step) == ("failed", "c", "marginals")
    assert told(sends) == dict.fromkeys(("b", "c", "dora"), "cancel")
    assert finish(running()[0], "dora", "failed", site="outsider")[0].ending.site == "dora"
    assert finish(running()[0], "outsider", "failed")[0].phase == "running"


def test_what_ended_badly_is_offered_again_as_the_next_attempt_and_old_words_do_not_count():
    job, _ = decide(submit()[0], "a", "refused")
    job, sends = submit(before=job, now=100.0)
    assert (job.phase, job.attempt, job.deadline) == ("offered", 2, 160.0)
    assert {send.head.attempt for send in sends} == {2}
    assert decide(job, "a", "refused", attempt=1) == (job, ())
    done, _ = finish(running()[0], "b", "done")
    assert submit(before=done) == (done, ())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sites": ("a", "nobody")}, "unknown-site"),
        ({"sites": ("a", "dora")}, "unknown-site"),
        ({"sites": ("a", "a")}, "named-twice"),
        ({"parties": ("b",)}, "too-few-parties"),
        ({"parties": ("b", "b")}, "named-twice"),
        ({"dealer": "a"}, "unknown-dealer"),
    ],
)
def test_what_names_members_that_are_none_is_refused(changes, reason):
    with pytest.raises(NotPossible) as caught:
        jobs.submitted(head().model_copy(update=changes), researcher="rosa", roles=ROLES, before=None, now=0.0)
    assert caught.value.reason == reason


def test_only_who_submitted_a_job_can_give_it_up_or_submit_it_again():
    job, _ = submit()
    with pytest.raises(NotPossible, match="of yours"):
        jobs.given_up(job, researcher="otto")
    with pytest.raises(NotPossible, match="another researcher"):
        jobs.submitted(head(), researcher="otto", roles=ROLES, before=job, now=0.0)
    gone, sends = jobs.given_up(job, researcher="rosa")
    assert gone.phase == "cancelled"
    assert told(sends) == dict.fromkeys(ASKED, "cancel")


def test_a_revoked_member_ends_its_open_jobs():
    job, sends = jobs.revoked(running()[0], "c")
    assert (job.phase, job.ending.error, job.ending.site) == ("failed", "revoked", "c")
    assert told(sends) == dict.fromkeys(("a", "b", "dora"), "cancel")
    assert jobs.revoked(running()[0], "outsider")[0].phase == "running"
    assert jobs.revoked(running()[0], "rosa")[0].phase == "failed"


def test_runs_exist_while_a_job_runs_only():
    job, _ = running()
    assert jobs.runs(job) == {
        f"{JOB}/1/mpc": ("b", "c"),
        f"{JOB}/1/deal/0": ("dora", "b"),
        f"{JOB}/1/deal/1": ("dora", "c"),
    }
    assert jobs.runs(submit()[0]) == jobs.runs(finish(job, "b", "done")[0]) == {}


class JobLife(RuleBasedStateMachine):
    """A model with a set and two flags beside the real state."""

    @initialize()
    def offer(self):
        self.job, self.sends = submit()
        self.accepted, self.ends, self.starts, self.now = set(), 0, 0, 0.0

    def take(self, step):
        before = self.job
        self.job, sends = step
        if self.job == before:
            assert sends == ()
        kinds = {send.head.kind for send in sends}
        assert len(kinds) <= 1
        self.starts += "start" in kinds
        if before.phase in jobs.OPEN_PHASES and self.job.phase not in jobs.OPEN_PHASES:
            self.ends += 1
        elif before.phase not in jobs.OPEN_PHASES and self.job.attempt == before.attempt:
            # What ended stays as it is.
            assert self.job == before

    @rule(site=st.sampled_from([*ASKED, "outsider"]), what=st.sampled_from(["accepted", "refused", "waiting"]))
    def decide(self, site, what):
        if self.job.phase == "offered" and site in ASKED:
            (self.accepted.add if what == "accepted" else self.accepted.discard)(site)
        self.take(decide(self.job, site, what, attempt=self.job.attempt, now=self.now))

    @rule(site=st.sampled_from(ASKED))
    def accept_all_but_one(self, site):
        for each in ASKED:
            if each != site:
                self.decide(each, "accepted")

    @rule(site=st.sampled_from(SITES))
    def say_something_about_another_attempt(self, site):
        before = self.job
        self.take(decide(self.job, site, "refused", attempt=self.job.attempt + 1))
        self.take(finish(self.job, site, "failed", attempt=self.job.attempt + 1))
        assert self.job == before

    @rule(
        sender=st.sampled_from([*SITES, "dora", "outsider"]),
        state=st.sampled_from(["done", "failed"]),
        named=st.sampled_from([*SITES, "outsider", None]),
    )
    def finish(self, sender, state, named):
        was, attempt = self.job.phase, self.job.attempt
        self.take(finish(self.job, sender, state, attempt=attempt, site=named))
        if was == "running" and self.job.phase == "failed":
            # Who is named takes part, or the sender is named; what is no site's fault names nobody.
            assert self.job.ending.site == (sender if named == "outsider" else named)
        if was == "running" and state == "done":
            assert (self.job.phase == "done") == (sender == "b")

    @rule(site=st.sampled_from(SITES))
    def report(self, site):
        self.take((jobs.reported(self.job, site, Status(job=JOB, attempt=self.job.attempt, step="s")), ()))

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds):
        self.now += seconds
        self.take(jobs.expired(self.job, now=self.now))

    @rule()
    def give_up(self):
        self.take(jobs.given_up(self.job, researcher="rosa"))

    @rule()
    def submit_again(self):
        before = self.job
        self.take(submit(before=before, now=self.now))
        if before.phase in jobs.OPEN_PHASES or before.phase == "done":
            assert self.job == before
        else:
            assert self.job.attempt == before.attempt + 1
            self.accepted, self.ends, self.starts = set(), 0, 0

    @invariant()
    def agrees_with_the_model(self):
        job = self.job
        assert self.starts <= 1
        assert self.ends == (job.phase not in jobs.OPEN_PHASES)
        if job.phase == "offered":
            assert {each.site for each in job.decisions if each.decision == "accepted"} == self.accepted
            assert len(self.accepted) < len(ASKED)
        if job.phase in {"running", "done"}:
            assert (self.accepted, self.starts) == (set(ASKED), 1)
        if job.phase in {"failed", "refused"}:
            assert job.ending.site in {*job.members, None}
        assert bool(jobs.runs(job)) == (job.phase == "running")


JobLife.TestCase.settings = settings(max_examples=25, stateful_step_count=25)
test_a_job_lives_as_the_model_says = JobLife.TestCase


def bring(site, before=None, now=0.0, **changes):
    return jobs.brought(head(**changes), site=site, roles=ROLES, before=before, now=now)


def test_a_study_that_its_sites_bring_is_offered_to_the_dealer_alone_and_starts_when_all_have_brought_it():
    job, sends = bring("a")
    assert told(sends) == {"dora": "offer"}
    for name in ("a", "c"):
        job, sends = bring(name, job)
        assert (job.phase, sends) == ("offered", ())
    job, _ = decide(job, "dora", "accepted")
    job, sends = bring("b", job, now=2.0)
    assert (job.phase, job.attempt, job.deadline) == ("running", 1, 62.0)
    assert told(sends) == dict.fromkeys((*SITES, "dora"), "start")
    # Once more, by whomever, changes nothing.
    assert bring("a", job) == (job, ())
    job, sends = finish(job, "b", "done")
    assert job.phase == "done"
    # Brought again, it runs again: the sites have the answer.
    again, _ = bring("c", job)
    assert (again.phase, again.attempt) == ("offered", 2)


def test_a_site_that_does_not_bring_a_study_is_named_when_time_is_over():
    job, _ = bring("a")
    job, _ = bring("b", job)
    job, _ = decide(job, "dora", "accepted")
    job, sends = jobs.expired(job, now=61.0)
    assert (job.phase, job.ending.site) == ("failed", "c")
    assert told(sends) == dict.fromkeys((*SITES, "dora"), "cancel")


def test_nobody_brings_a_study_of_others_or_of_a_researcher():
    with pytest.raises(NotPossible, match="takes part"):
        bring("outsider")
    handed_in, _ = submit()
    for before in (handed_in, running()[0]):
        with pytest.raises(NotPossible, match="a researcher handed"):
            bring("a", before)
    brought, _ = bring("a")
    with pytest.raises(NotPossible):
        submit(brought)


def test_attempts_at_one_study_are_bounded():
    job, _ = bring("a")
    last = jobs.replace(job, phase="failed", attempt=10_000)
    with pytest.raises(NotPossible) as refused:
        bring("a", last)
    assert refused.value.reason == "too-many-attempts"
