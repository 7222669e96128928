"""A mechanism over shares, start to end: the same law as on one table, at its price, and against a lead that lies."""

import threading
import time

import numpy as np
import pytest
from synthesis_members import SCHEMA, pooled_frame, run, shared_out, small_frames, small_study

from generators import AIM, MST, Adaptive, ChowLiu, Independent, LocalTableOracle, PrivBayes
from privacy import ApproximateDP, RdpAccountant, ZcdpFilter
from privacy.ledger.answers import decode_answer, encode_answer
from smpc import ConfirmationMissing, FrameRejected, PartyFailed, run_local
from smpc.kinds import Digits
from synthema import conducting
from synthema.conducting import Clerk, conduct, synthesis_vector
from synthema.errors import QuestionRefused, SiteInputInvalid, StudyError, SynthesisFailed
from synthema.joint_noise import rho_and_delta
from synthema.marginal_layout import synthesis_layout
from synthema.questions import Failed, Measure, Select, Wait, encode_finished, encode_question
from synthema.steps import mechanism_rho, most_questions, plan
from synthema.synthesis_answer import answer_measurements, answer_table
from synthema.synthesis_forecast import synthesis_material
from synthema.validity import check_contributions

MECHANISMS = {
    "chow-liu": ChowLiu,
    "independent": Independent,
    "mst": MST,
    "aim": AIM,
    "privbayes": PrivBayes,
    "adaptive": Adaptive,
}


# The two that ask longest, beside the others' default runs.
LONGEST = ("aim", "adaptive")
EACH = [pytest.param(name, marks=[pytest.mark.slow] if name in LONGEST else []) for name in MECHANISMS]


@pytest.fixture
def clerks(monkeypatch):
    """Every party's clerk of the runs of a test."""
    made = []

    class Watched(Clerk):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(conducting, "Clerk", Watched)
    return made


# ------------------------------------------------------------ the law


@pytest.mark.parametrize("name", EACH)
def test_with_next_to_no_noise_the_model_is_that_of_one_table(name):
    # Epsilon 100 and noise sampled jointly: scales of one row or less, and scores that differ by tens of rows.
    study = small_study(name, synthesis={"noise": "joint"})
    answer = run(study).results[0]
    oracle = LocalTableOracle(pooled_frame(), SCHEMA)
    central = MECHANISMS[name](rho=mechanism_rho(study)).fit(None, SCHEMA, oracle=oracle)
    exact = LocalTableOracle(pooled_frame(), SCHEMA)
    measured = answer_measurements(answer)
    if name in ("chow-liu", "independent", "mst"):
        assert [item.columns for item in measured] == [item.columns for item in central.measurements]
        # (Which families of three columns the others take depends on noise even if there is next to none.)
        assert {frozenset(edge) for edge in answer["edges"]} == {frozenset(edge) for edge in central.edges}
    for item in measured:
        [counts] = exact.measure([item.columns], rho=1e9)
        if not item.groups:
            assert np.abs(item.values - counts.values).max() <= 8 * item.noise_std + 1
    assert {("a", "b"), ("b", "d")} <= {tuple(edge) for edge in answer["edges"]} or name == "independent"


@pytest.mark.parametrize("name", EACH)
def test_all_parties_return_the_same_answer_which_a_ledger_stores(name):
    study = small_study(name, epsilon=1.0)
    results = run(study).results
    assert results[1] == results[0] == results[2]
    answer = decode_answer(encode_answer(results[0]))
    assert answer == results[0]
    table = answer_table(answer)
    SCHEMA.validate(table)
    assert len(table) == 60
    assert len(answer_measurements(answer)) == answer["cost"]["marginals"]


# ------------------------------------------------------------ the price


@pytest.mark.parametrize(
    ("name", "noise"),
    [
        pytest.param(
            name, noise, marks=[pytest.mark.slow] if name == "adaptive" or (name, noise) == ("aim", "joint") else []
        )
        for name in MECHANISMS
        for noise in ("shares", "joint")
    ],
)
def test_what_is_opened_costs_at_most_what_the_study_was_priced_at(name, noise, clerks):
    for threshold, m in ((1, 1), (2, 2)):
        study = small_study(
            name,
            epsilon=2.0,
            study={"max_sites_per_patient": m},
            federation={"collusion_threshold": threshold},
            synthesis={"noise": noise},
        )
        clerks.clear()
        cost = run(study).results[0]["cost"]
        [priced] = [step.event for step in plan(study)]
        rho, delta = rho_and_delta(priced)
        assert [clerk.spent for clerk in clerks] == [clerks[0].spent] * 3
        # By the filter that ledgers use, whole units and all: the cap is the study's budget.
        spent, aside = clerks[0].spent, 1e-6 * 2.0**-10 if delta else 0.0
        ledger = ZcdpFilter(2.0, 1e-6, neighbours="add_remove_one", approximate_delta=aside)
        for event in spent:
            ledger.spend(event)
        # Nearly all of it is used, and an accountant of another kind agrees that it is enough.
        assert 0.98 * rho < ledger.spent["rho"] <= rho
        assert ledger.spent["delta"] <= delta
        assert cost["rho"] == pytest.approx(ledger.spent["rho"], rel=1e-9)
        report = RdpAccountant(neighbours="add_remove_one")
        for event in spent:
            report.compose(event)
        assert report.epsilon(delta=1e-6) <= 2.0
        # Sensitivities are those of a patient at m sites, noise that of n - t parties.
        choices, marginals = most_questions(study)
        assert cost["choices"] <= choices
        assert cost["marginals"] <= marginals
        for event in spent:
            squared = getattr(event, "l2_sensitivity_squared", m * m)
            assert squared % (m * m) == 0
            assert getattr(event, "n_honest", 3 - threshold) == 3 - threshold
            assert not isinstance(event, ApproximateDP) or event.delta < 2.0**-64


def test_noise_of_the_whole_run_is_what_each_measurement_says():
    # 8 runs of all marginals, 55 cells each; the variance lies within four standard errors of
    # one, noise 30 % too small does not.
    study = small_study("chow-liu", epsilon=3.0, federation={"collusion_threshold": 2})
    exact = LocalTableOracle(pooled_frame(), SCHEMA)
    errors = []
    for _ in range(8):
        for item in answer_measurements(run(study).results[0]):
            [counts] = exact.measure([item.columns], rho=1e9)
            errors.append((item.values - counts.values).ravel() / item.noise_std)
    standardised = np.concatenate(errors)
    far = 4 * np.sqrt(2 / standardised.size)
    assert abs(standardised.var() - 1) < far
    assert abs(0.7**2 - 1) > far


# ------------------------------------------------------------ a lead that lies


GOOD = Measure(cliques=(("a", "b"),), rho=0.001)
CHOICE = Select(candidates=(("a", "b"), ("c", "d")), known=(-1, -1), epsilon=0.01)
ESTIMATES = np.zeros(6 + 8, dtype=np.int64)


async def agreed_inputs(session, packages, study):
    """What comes before the first question."""
    layout, cap = synthesis_layout(study), study.largest_cohort
    await check_contributions(session, layout, packages, sites=tuple(study.sites), cap=cap)


def against_a_lead_that_says(*messages, study=None):
    """What an honest party raises when the lead, which answers along, says all this."""
    study = study or small_study("mst", epsilon=1.0)

    async def protocol(session, packages):
        if session.party:
            return await conduct(session, packages, study)
        await agreed_inputs(session, packages, study)
        clerk = Clerk(session, packages, study)
        clerk._pay = lambda _event: None
        for message in messages:
            await session.exchange(message)
            try:
                await clerk.handle(message)
            except (QuestionRefused, SynthesisFailed):
                break
        await session.exchange(b"")
        return None

    with pytest.raises(PartyFailed) as failed:
        run_local(protocol, shared_out(study, small_frames()))
    assert failed.value.party > 0
    return failed.value.__cause__


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        (encode_question(GOOD.model_copy(update={"rho": 1e6})), "costs more"),
        (encode_question(CHOICE.model_copy(update={"epsilon": 50.0}), ESTIMATES), "costs more"),
        (encode_question(GOOD.model_copy(update={"cliques": (("a", "nowhere"),)})), "did not share"),
        (encode_question(GOOD.model_copy(update={"cliques": (("a", "a"),)})), "did not share"),
        # Three columns lie in no marginal that was shared for MST: reading them from shares would open noise alone.
        (encode_question(GOOD.model_copy(update={"cliques": (("a", "b", "c"),)})), "did not share"),
        (encode_question(CHOICE, ESTIMATES[1:]), "another form"),
        (encode_question(CHOICE), "another form"),
        (encode_question(CHOICE.model_copy(update={"weights": (1,)}), ESTIMATES), "another number"),
        (encode_question(CHOICE.model_copy(update={"penalties": (1, 2, 3)}), ESTIMATES), "another number"),
        (encode_question(CHOICE.model_copy(update={"known": (-1, 0)}), ESTIMATES[:6]), "distance"),
        (encode_question(GOOD.model_copy(update={"groups": {"b": (0, 1)}})), "groups"),
        (encode_question(GOOD.model_copy(update={"groups": {"b": (0, 2, 2)}})), "groups"),
        (encode_question(GOOD.model_copy(update={"groups": {"z": (0, 1)}})), "groups"),
        (encode_question(GOOD.model_copy(update={"rho": 1e-300})), "more noise"),
        (encode_question(GOOD.model_copy(update={"rho": 1e-30})), "more noise"),
        (encode_question(CHOICE.model_copy(update={"epsilon": 1e-300}), ESTIMATES), "smaller epsilon"),
        (encode_question(CHOICE.model_copy(update={"epsilon": 1e-7}), ESTIMATES), "smaller epsilon"),
        (b"import os\n", "no question"),
        (b"", "no question"),
        (encode_finished(b"nothing"), "answer is none"),
        (encode_finished(encode_answer({"format": "synthema-synthesis-v1"})), "answer is none"),
    ],
)
def test_a_question_that_the_study_does_not_cover_is_refused_by_the_others(message, rule):
    error = against_a_lead_that_says(message)
    assert isinstance(error, QuestionRefused)
    assert rule in error.rule


def test_many_small_questions_are_refused_once_they_exceed_the_whole():
    study = small_study("mst", epsilon=1.0)
    part = encode_question(GOOD.model_copy(update={"rho": mechanism_rho(study) / 3.001}))
    error = against_a_lead_that_says(*[part] * 4, study=study)
    assert isinstance(error, QuestionRefused)
    assert "costs more" in error.rule


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # Same operations, same shapes: only what the parties believe to have paid differs.
        (encode_question(GOOD), encode_question(GOOD.model_copy(update={"rho": 0.002}))),
        # Or what they choose by.
        (
            encode_question(CHOICE.model_copy(update={"penalties": (0, 0)}), ESTIMATES),
            encode_question(CHOICE.model_copy(update={"penalties": (0, 5)}), ESTIMATES),
        ),
        (encode_question(CHOICE, ESTIMATES), encode_question(CHOICE, ESTIMATES + 1)),
    ],
    ids=["price", "penalties", "estimates"],
)
def test_parties_that_are_told_different_questions_open_nothing(one, other, monkeypatch):
    from smpc import Session

    opened, study = [], small_study("mst", epsilon=1.0, synthesis={"input_check": "none"})
    monkeypatch.setattr(Session, "open", lambda *_: opened.append(1))
    told = [one, one, other]

    async def protocol(session, packages):
        if session.party:
            return await conduct(session, packages, study)
        await session._exchange("exchange", [np.frombuffer(message, dtype=np.uint8) for message in told])
        await Clerk(session, packages, study).handle(told[0])
        return None

    with pytest.raises(PartyFailed) as failed:
        run_local(protocol, shared_out(study, small_frames()))
    assert isinstance(failed.value.__cause__, ConfirmationMissing)
    assert not opened


def test_only_the_lead_asks():
    study = small_study("mst")

    async def protocol(session, packages):
        if session.party != 2:
            return await conduct(session, packages, study)
        await agreed_inputs(session, packages, study)
        await session.exchange(encode_question(GOOD))
        return await session.exchange(b"")

    with pytest.raises(PartyFailed) as failed:
        run_local(protocol, shared_out(study, small_frames()))
    assert isinstance(failed.value.__cause__, QuestionRefused | FrameRejected)


def alter_measurement(answer):
    answer["measurements"][0]["values"][0] += 1


def alter_noise(answer):
    answer["measurements"][0]["noise_std"] *= 0.5


def drop_measurement(answer):
    del answer["measurements"][-1]


def alter_cost(answer):
    answer["cost"]["rho"] *= 0.5


def alter_mechanism(answer):
    answer["mechanism"] = "aim"


def shorten_table(answer):
    for column in answer["table"]:
        del column["values"][-1]


def drop_column(answer):
    del answer["table"][0]


def invent_category(answer):
    answer["table"][0]["values"][0] = "a patient's name"


def break_type(answer):
    answer["table"][3]["values"][0] = "12"


def invent_edge(answer):
    answer["edges"].append(["a", "nowhere"])


@pytest.mark.parametrize(
    "alter",
    [
        alter_measurement,
        alter_noise,
        drop_measurement,
        alter_cost,
        alter_mechanism,
        shorten_table,
        drop_column,
        invent_category,
        break_type,
        invent_edge,
    ],
)
def test_an_answer_that_is_not_what_was_opened_is_refused_by_the_others(alter, monkeypatch):
    make = conducting.make_answer

    def lies(*args, **kwargs):
        answer = make(*args, **kwargs)
        alter(answer)
        return answer

    monkeypatch.setattr(conducting, "make_answer", lies)
    # The lead does not look; the other parties do.
    checked = conducting.check_answer
    parties = []

    def look(*args, **kwargs):
        parties.append(1)
        if len(parties) > 1:
            checked(*args, **kwargs)

    monkeypatch.setattr(conducting, "check_answer", look)
    with pytest.raises(PartyFailed) as failed:
        run(small_study("independent", epsilon=1.0))
    assert isinstance(failed.value.__cause__, QuestionRefused)
    assert "patient" not in str(failed.value.__cause__)


# ------------------------------------------------------------ a site that lies


def cells_of_madrid(change, study):
    """Each party's packages, with one count of madrid changed."""
    from smpc import RING64, SharePackage

    packages = shared_out(study, small_frames())
    at = list(study.sites).index("madrid")
    own = packages[0][at]
    words = own.expand().copy()
    words[:1] += np.uint64(change % 2**64)
    packages[0][at] = SharePackage(RING64, own.shape, values=words)
    return packages


@pytest.mark.parametrize("change", [1, -1, 2**40, 2**63])
def test_a_site_whose_counts_cannot_be_those_of_patients_is_named_before_anything_is_asked(change, clerks):
    study, errors = small_study("mst", epsilon=1.0, federation={"most_patients": 400}), []

    async def protocol(session, packages):
        try:
            return await conduct(session, packages, study)
        except SiteInputInvalid as error:
            errors.append(error.site)
            return None

    run_local(protocol, cells_of_madrid(change, study))
    assert errors == ["madrid"] * 3
    assert not clerks


def test_a_declared_bound_makes_choices_cheaper():
    def widths(material):
        return {kind.width for kind in material if isinstance(kind, Digits)}

    studies = [small_study("mst", epsilon=1.0, federation=section) for section in ({}, {"most_patients": 400})]
    large, small = (synthesis_material(study) for study in studies)
    assert small.rounds <= large.rounds
    assert small.dealer_bytes < large.dealer_bytes
    assert [widths(run(study).cost.material) for study in studies] == [{8, 32, 64}, {8, 16, 32, 64}]
    # Nothing is checked where the study says so: nine rounds less.
    unchecked = synthesis_material(small_study("mst", epsilon=1.0, synthesis={"input_check": "none"}))
    assert unchecked.rounds == large.rounds - 9


# ------------------------------------------------------------ what else goes wrong


def test_a_candidate_that_is_named_twice_is_compared_twice(monkeypatch):
    # Two of a kind in one question: the second is no earlier distance yet; in the next question both are.
    def ask(_self, _frame, _schema, *, oracle):
        far = np.zeros((2, 3))
        chosen = [oracle.select([("a", "b"), ("a", "b")], [far, far], epsilon=5.0) for _ in range(2)]
        assert set(chosen) <= {0, 1}
        raise ZeroDivisionError

    monkeypatch.setattr(MST, "fit", ask)
    with pytest.raises(PartyFailed) as failed:
        run(small_study("mst"))
    assert failed.value.__cause__.error == "ZeroDivisionError"


def no_thread_is_left():
    for _ in range(200):
        if not any(thread.name == "synthesis" for thread in threading.enumerate()):
            return True
        time.sleep(0.02)
    return False


def test_a_mechanism_that_fails_ends_the_run_at_every_party(monkeypatch):
    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("text that goes nowhere")

    monkeypatch.setattr(MST, "fit", broken)
    study = small_study("mst")
    failures = []

    async def protocol(session, packages):
        try:
            return await conduct(session, packages, study)
        except SynthesisFailed as error:
            failures.append(error)
            return None

    run_local(protocol, shared_out(study, small_frames()))
    assert [error.error for error in failures] == ["ZeroDivisionError"] * 3
    assert not any("text" in str(error) for error in failures)
    assert no_thread_is_left()


def test_a_lead_whose_run_breaks_off_leaves_no_thread_behind():
    study = small_study("aim")

    async def protocol(session, packages):
        if session.party == 2:
            await agreed_inputs(session, packages, study)
            for _ in range(4):
                await session.exchange(b"")
            return None
        return await conduct(session, packages, study)

    with pytest.raises(PartyFailed):
        run_local(protocol, shared_out(study, small_frames()))
    assert no_thread_is_left()


def test_a_mechanism_that_takes_its_time_keeps_the_others_waiting(monkeypatch):
    monkeypatch.setattr(conducting, "HEARTBEAT_SECONDS", 0.02)
    fit, waits = MST.fit, []

    def slowly(*args, **kwargs):
        time.sleep(0.2)
        return fit(*args, **kwargs)

    decode = conducting.decode_question

    def counting(message):
        question, rest = decode(message)
        waits.append(isinstance(question, Wait))
        return question, rest

    monkeypatch.setattr(MST, "fit", slowly)
    monkeypatch.setattr(conducting, "decode_question", counting)
    assert run(small_study("mst")).results[0]["mechanism"] == "mst"
    assert sum(waits) >= 3
    assert sum(waits) % 3 == 0


def test_a_site_with_more_rows_than_counts_are_declared_for_is_refused():
    with pytest.raises(StudyError, match="at most"):
        synthesis_vector(small_study(), np.broadcast_to(np.zeros(4, dtype=np.int8), (1 << 23, 4)))


def test_a_failure_names_its_type_alone():
    with pytest.raises(ValueError, match="error"):
        Failed(error="a text with spaces")
