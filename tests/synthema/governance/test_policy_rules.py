"""Who may ask, what for, with which algorithm, when, how often and for how much: the site's own rules."""

import itertools
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from governance_cases import ANNA, BELA, CURVES, MODEL, NOW, Clock, site, study
from hypothesis import given
from hypothesis import strategies as st

from privacy import epsilon_to_rho, rho_of
from synthema.errors import PolicyError, SiteRefused
from synthema.governance.policy_file import read_policy
from synthema.governance.terms import Algorithm, Researcher, Terms, Window, algorithms_of, matches
from synthema.job import PRIVATE_ACCOUNT
from synthema.signing import Signer

HEAD = {"version": 1, "epsilon_cap": 3.0, "delta_cap": 1e-6}
KEY = ANNA.public_key


def refusal(place, asked, signer=ANNA) -> str:
    with pytest.raises(SiteRefused) as caught:
        place.accept(asked.signed(signer))
    return caught.value.reason


def test_only_listed_researchers_are_considered(tmp_path):
    place = site(tmp_path, listed=(Researcher("Anna", KEY),))
    assert refusal(place, study(), BELA) == "researcher"
    place.accept(study().signed(ANNA)).abandon()
    assert refusal(site(tmp_path, "madrid", listed=()), study()) == "researcher"


def test_purposes_are_allowed_word_for_word_or_by_a_word(tmp_path):
    by_text = Terms(purposes=("survival after remission",))
    by_word = Terms(purpose_words=("Remission",))
    for name, terms in (("madrid", by_text), ("milan", by_word)):
        place = site(tmp_path, name, terms=terms)
        place.consider(study().signed(ANNA))
        # "remissions" is another word than "remission".
        assert refusal(place, study(study={"purpose": "costs of remissions"})) == "purpose"


def test_a_researchers_own_terms_are_added_to_the_sites(tmp_path):
    place = site(
        tmp_path,
        terms=Terms(algorithms=("marginals", "overlap")),
        listed=(Researcher("Anna", KEY), Researcher("Bela", BELA.public_key, Terms(algorithms=("overlap",)))),
    )
    place.consider(study().signed(ANNA))
    assert refusal(place, study(), BELA) == "algorithm"
    assert refusal(place, study(exact=CURVES)) == "algorithm"


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        ("synthesis", True),
        ("marginals:chow-liu", True),
        ("marginals:chow-liu@1", True),
        ("marginals:chow-liu@2", False),
        ("marginals:mst", False),
        ("kaplan-meier", False),
    ],
)
def test_an_algorithm_is_allowed_by_name_mechanism_and_version(tmp_path, pattern, allowed):
    place = site(tmp_path, terms=Terms(algorithms=(pattern,)))
    if allowed:
        place.consider(study().signed(ANNA))
    else:
        assert refusal(place, study()) == "algorithm"


def test_every_step_of_a_study_has_an_algorithm():
    asked = study(exact=CURVES | MODEL, anonymise={"k": 3}, overlap={"n_buckets": 2**16})
    assert [str(each) for each in algorithms_of(asked)] == [
        "overlap:buckets@1",
        "anonymised:k-anonymity@1",
        "logistic:newton@2",
        "kaplan-meier:counts@1",
        "marginals:chow-liu@1",
    ]


@given(
    st.sampled_from(["overlap", "marginals"]),
    st.sampled_from(["a", "b"]),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
)
def test_a_pattern_matches_what_it_says_and_leaves_free_what_it_does_not(step, mechanism, version, has_m, has_v):
    pattern = step + (f":{mechanism}" if has_m else "") + (f"@{version}" if has_v else "")
    for other in itertools.product(["overlap", "marginals"], ["a", "b"], [1, 2, 3]):
        same = other[0] == step and (not has_m or other[1] == mechanism) and (not has_v or other[2] == version)
        assert matches(pattern, Algorithm(*other)) == same


# Minutes of a week, against a window's definition written out by hand.
@given(st.integers(0, 7 * 24 * 60 - 1), st.sets(st.integers(0, 6)), st.integers(0, 23), st.integers(0, 23))
def test_a_window_is_open_in_its_hours_of_its_days(minute, days, start, end):
    if start == end:
        return
    monday = datetime(2031, 3, 3, tzinfo=UTC)
    moment = monday + timedelta(minutes=minute)
    window = Window(weekdays=frozenset(days), hours=(time(start), time(end)))
    length = (end - start) % 24 * 60
    begun = [monday + timedelta(days=day, hours=start) for day in range(-1, 7)]
    expected = any(first.weekday() in days and first <= moment < first + timedelta(minutes=length) for first in begun)
    assert window.is_open(moment) == expected


def test_dates_and_hours_are_the_sites_own(tmp_path):
    clock = Clock()
    window = Window(date(2031, 3, 1), date(2031, 3, 31), frozenset(range(5)), (time(8), time(18)))
    place = site(tmp_path, clock=clock, terms=Terms(window=window), timezone=ZoneInfo("Europe/Vienna"))
    place.consider(study().signed(ANNA))
    closed = [
        datetime(2031, 3, 5, 6, 59, tzinfo=UTC),  # 07:59 in Vienna
        datetime(2031, 3, 5, 17, 0, tzinfo=UTC),  # 18:00 in Vienna, winter time
        datetime(2031, 3, 8, 10, 0, tzinfo=UTC),  # Saturday
        datetime(2031, 4, 1, 10, 0, tzinfo=UTC),  # after the end
        datetime(2031, 2, 28, 10, 0, tzinfo=UTC),  # before the beginning
    ]
    for moment in closed:
        clock.now = moment
        assert refusal(place, study()) == "window"
    clock.now = datetime(2031, 3, 31, 15, 59, tzinfo=UTC)  # 17:59 in Vienna, summer time
    place.consider(study().signed(ANNA))


def test_a_clock_that_went_backwards_is_refused(tmp_path):
    place = site(tmp_path)
    last = place.history().last_at
    clock = Clock(last - timedelta(minutes=2))
    place = site(tmp_path, clock=clock)
    assert refusal(place, study()) == "clock"
    # A step of a few seconds is no reason, but does not turn time back either: the window is still over.
    clock.now = last - timedelta(seconds=5)
    place.consider(study().signed(ANNA))
    over = Window(hours=((last - timedelta(seconds=5)).time(), last.time()))
    assert refusal(site(tmp_path, clock=clock, terms=Terms(window=over)), study()) == "window"


def studies(n):
    return [study(study={"name": f"pilot-{i}"}, epsilon=0.3) for i in range(n)]


def test_a_researcher_has_so_many_new_studies_a_day(tmp_path):
    clock = Clock(datetime.now(UTC))
    place = site(tmp_path, clock=clock, terms=Terms(jobs_per_day=2))
    first, second, third, fourth = studies(4)
    job = place.accept(first.signed(ANNA))
    place.accept(second.signed(ANNA)).abandon()
    # One that was given back counts: who asks again and again is slowed down as well.
    assert refusal(place, third) == "rate"
    place.accept(third.signed(BELA))
    # The same study again is no new one.
    job.abandon()
    place.accept(first.signed(ANNA))
    clock.forward(hours=25)
    place.accept(fourth.signed(ANNA))


def test_a_researchers_budget_is_summed_over_their_studies(tmp_path):
    cap = 0.55
    place = site(tmp_path, terms=Terms(epsilon_cap=cap))
    one, two, three, four = studies(4)
    for asked in (one, two, three):
        place.accept(asked.signed(ANNA))
    assert refusal(place, four) == "researcher-budget"
    place.accept(four.signed(BELA))
    # Independent sum: rho of what was reserved for Anna, against the conversion of her cap.
    spent = [rho_of(event) for event in _events(place, KEY)]
    assert len(spent) == 3
    assert sum(spent) <= epsilon_to_rho(cap, 1e-6) < 4 / 3 * sum(spent)
    # A study that is given back is given back to her, too.
    place.ledger.void(f"{_job(one)}/marginals")
    place.accept(four.signed(BELA))
    assert refusal(place, study(study={"name": "more"}, epsilon=0.5)) == "researcher-budget"


def _job(asked):
    return asked.signed(ANNA).document_id


def _events(place, researcher):
    from privacy.events import event_from_json

    bodies = [entry.body for entry in place.ledger.entries() if entry.kind == "reserve"]
    return [event_from_json(body["event"]) for body in bodies if f"[asked by {researcher}]" in body["purpose"]]


def test_two_studies_at_once_do_not_both_pass_a_limit_that_has_room_for_one(tmp_path, monkeypatch):
    from synthema.job import SiteJob

    place = site(tmp_path, terms=Terms(jobs_per_day=1))
    one, two, *_ = studies(2)
    original, won = SiteJob.reserve, []

    def slow(self):
        monkeypatch.setattr(SiteJob, "reserve", original)
        won.append(place.accept(two.signed(ANNA)))
        original(self)

    monkeypatch.setattr(SiteJob, "reserve", slow)
    assert refusal(place, one) == "rate"
    assert place.ledger.pending() == (f"{won[0].job_id}/marginals",)


def test_a_second_researcher_who_signs_the_same_study_gets_the_same_answer_and_pays_nothing(tmp_path):
    place = site(tmp_path)
    asked = study()
    job = place.accept(asked.signed(ANNA))
    job.start("marginals")
    job.settle("marginals", {"answer": 1})
    entries = len(place.ledger.entries())
    again = place.accept(asked.signed(BELA))
    assert again.stored("marginals") == {"answer": 1}
    assert len(place.ledger.entries()) == entries
    assert place.history().rho_units_of(BELA.public_key) == 0


def test_the_dry_run_says_what_is_left_and_agrees_with_the_charge(tmp_path):
    place = site(tmp_path)
    asked = study(exact=CURVES, overlap={"n_buckets": 2**16})
    prices = place.price(asked)
    before = place.ledger.remaining(PRIVATE_ACCOUNT)
    place_job = site(tmp_path, allow_exact=True, min_cell=5).accept(asked.signed(ANNA))
    for step in place_job.steps:
        place_job.start(step)
    after = place.ledger.remaining(PRIVATE_ACCOUNT)
    last = prices[-1]
    assert last.rho_left == pytest.approx(after.rho_left, rel=1e-9)
    assert last.epsilon_after == pytest.approx(after.epsilon_spent, rel=1e-9)
    assert before.rho_left > prices[0].rho_left > last.rho_left
    text = [str(price) for price in prices]
    assert "no epsilon covers it" in text[1]
    assert "of 5 is taken" in text[-1]
    assert "does not fit" in str(place.price(study(epsilon=6.0))[0])


def test_exact_releases_wait_for_a_person_unless_they_are_listed():
    private, exact = study(), study(exact=CURVES)
    assert Terms().approval(private) == "ask"
    automatic = Terms(approve="automatic")
    assert (automatic.approval(private), automatic.approval(exact)) == ("automatic", "ask")
    listed = Terms(approve="automatic", automatic=("marginals", "kaplan-meier"))
    assert listed.approval(exact) == "automatic"
    assert listed.approval(study(exact=CURVES | MODEL)) == "ask"


def test_a_policy_is_read_from_toml_and_means_what_it_says():
    import tomllib

    from synthema.governance import policy_file

    text = policy_file.__doc__.replace('"3f0c..."', f'"{KEY}"')
    data = tomllib.loads("\n".join(line[4:] for line in text.splitlines() if line.startswith("    ")))
    policy = read_policy(data["policy"], partners=frozenset({"madrid"}))
    assert policy.min_patients == 20
    assert policy.preset == "datashield"
    assert policy.timezone == ZoneInfo("Europe/Vienna")
    assert policy.terms.window == Window(weekdays=frozenset(range(5)), hours=(time(8), time(18)))
    assert policy.terms.epsilon_cap == 1.0
    anna = policy.researcher(KEY)
    assert anna.terms.purposes == ("survival after first remission",)
    assert anna.terms.window.valid_until == date(2026, 12, 31)
    assert policy.approval(study(), KEY) == "automatic"
    assert policy.approval(study(exact=CURVES), KEY) == "ask"


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"version": 2}, "version"),
        ({"epsilon_cap": -1.0}, "epsilon_cap"),
        ({"epsilon_cap": float("nan")}, "epsilon_cap"),
        ({"minpatients": 3}, "minpatients"),
        ({"min_patients": 1}, "min_patients"),
        ({"timezone": "Middle/Earth"}, "timezone"),
        ({"hours": "8-18"}, "HH:MM"),
        ({"hours": "08:00-08:00"}, "HH:MM"),
        ({"weekdays": ["monday"]}, "weekdays"),
        ({"algorithms": ["rm -rf"]}, "algorithm"),
        ({"filters": {"tab": 3}}, "preset"),
        ({"automatic": ["marginals"]}, "approve"),
        ({"researchers": [{"name": "A", "key": "00"}]}, "key"),
        ({"researchers": [{"name": "A", "key": KEY}, {"name": "B", "key": KEY}]}, "one key"),
        ({"researchers": [{"name": "A", "key": KEY}], "any_researcher": True}, "lists nobody"),
        ({"valid_from": date(2031, 1, 2), "valid_until": date(2031, 1, 1)}, "after"),
    ],
)
def test_a_wrong_policy_is_refused_with_the_field(section, words):
    with pytest.raises(PolicyError, match=words):
        read_policy(HEAD | section, partners=frozenset())


def test_a_policy_without_researchers_considers_nobody():
    assert not read_policy(HEAD, partners=frozenset()).knows(KEY)
    assert read_policy(HEAD | {"any_researcher": True}, partners=frozenset()).knows(Signer().public_key)


def test_the_host_of_a_guest_is_one_site_with_it(tmp_path):
    hosts = {"graz": "vienna"}
    asked = study(sites=("vienna", "graz", "madrid"), exact=CURVES)
    place = site(tmp_path, "madrid", allow_exact=True, hosts=hosts)
    # Three names, but Vienna could subtract its own and its guest's: what is left is Madrid's.
    named = study(
        sites=("vienna", "graz", "madrid"), exact=CURVES, federation={"compute_parties": ["vienna", "madrid"]}
    )
    assert refusal(place, named) == "exact"
    assert refusal(place, asked) == "collusion"
    fair = study(
        sites=("vienna", "graz", "madrid", "milan"),
        exact=CURVES,
        federation={"compute_parties": ["vienna", "madrid", "milan"]},
    )
    place.consider(fair.signed(ANNA))


def test_now_is_after_every_entry_that_these_tests_write():
    assert datetime.now(UTC) < NOW
