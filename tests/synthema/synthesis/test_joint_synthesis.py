"""Studies with each mechanism, run by sites that decide and pay: documents, refusals, ledgers, stored answers."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from synthesis_members import SCHEMA, pooled_frame, small_frames, small_study

from generators import Domain, count_marginal, encode
from privacy.ledger import open_ledger, verify
from synthema import joint
from synthema.compare import compare_pairs
from synthema.demo import demo_frames, demo_study
from synthema.errors import QuestionRefused, SiteInputInvalid, SiteRefused, StudyError
from synthema.joint_noise import rho_and_delta
from synthema.networks.embedded import EmbeddedNetwork
from synthema.pipeline import simulate
from synthema.signing import Signer
from synthema.site import Site, SitePolicy
from synthema.steps import needs_material, plan, set_aside, synthesis_cliques
from synthema.study import Study
from synthema.study_mechanism import answer_of_counts
from synthema.synthesis_answer import answer_measurements, answer_table, make_answer, read_answer

LATER = {"noise", "workload", "dealer", "input_check", "most_patients"}


# ------------------------------------------------------------ the document


def test_the_bytes_of_an_older_study_are_what_they_were():
    # Written by the version before mechanisms, noise and dealer could be chosen.
    digest = hashlib.sha256(demo_study().document()).hexdigest()
    assert digest == "075971d5e7242c292be2b7557c3f63b46f4b1ae55746fcacd5a969b27e3b9913"
    body = json.loads(small_study("chow-liu").document())
    assert not LATER & {*body["synthesis"], *body["federation"]}


def test_what_is_chosen_is_signed_and_reads_back():
    study = small_study(
        "aim", federation={"dealer": "broker"}, synthesis={"noise": "joint", "workload": [["a", "b"], ["c"]]}
    )
    body = json.loads(study.document())
    assert body["synthesis"]["workload"] == [["a", "b"], ["c"]]
    assert (body["synthesis"]["noise"], body["federation"]["dealer"]) == ("joint", "broker")
    again = Study.from_document(study.document())
    assert again.document() == study.document()
    assert again.synthesis == study.synthesis
    assert small_study("mst").document() != small_study("chow-liu").document()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"synthesis": {"mechanism": "gan"}}, "mechanism"),
        ({"synthesis": {"noise": "none"}}, "noise"),
        ({"synthesis": {"workload": [["a", "b"]]}}, "workload is for"),
        ({"synthesis": {"mechanism": "aim", "workload": [["a", "z"]]}}, "workload"),
        ({"synthesis": {"mechanism": "aim", "workload": [["a", "a"]]}}, "workload"),
        ({"synthesis": {"mechanism": "aim", "workload": [[]]}}, "workload"),
        ({"federation": {"dealer": "vienna"}}, "dealer"),
        ({"federation": {"dealer": "A dealer"}}, "dealer"),
        ({"federation": {"most_patients": 1 << 23}}, "most_patients"),
        ({"synthesis": {"input_check": "some"}}, "input_check"),
    ],
)
def test_a_synthesis_that_makes_no_sense_is_refused(sections, message):
    with pytest.raises(StudyError, match=message):
        small_study("mst", **sections)


def test_only_sums_do_without_correlated_randomness():
    assert not needs_material(small_study("chow-liu"))
    assert not needs_material(small_study("independent"))
    assert needs_material(small_study("chow-liu", synthesis={"noise": "joint"}))
    assert needs_material(small_study("mst"))
    assert needs_material(demo_study())


def test_a_part_of_delta_is_set_aside_only_where_something_has_a_delta():
    assert set_aside(small_study("chow-liu")) == 0
    for study in (small_study("mst"), small_study("independent", synthesis={"noise": "joint"})):
        [event] = [step.event for step in plan(study)]
        assert 0 < rho_and_delta(event)[1] <= set_aside(study) == 1e-6 / 1024
    tiny = Study.from_dict(
        {
            "study": {"name": "x", "purpose": "a tiny delta", "schema": SCHEMA},
            "budget": {"epsilon": 1.0, "delta": 1e-20},
            "sites": {"vienna": {}, "madrid": {}},
            "synthesis": {"mechanism": "mst"},
        }
    )
    with pytest.raises(StudyError, match="delta is too small"):
        plan(tiny)


# ------------------------------------------------------------ runs


POLICY = {"epsilon_cap": 2.0, "delta_cap": 1e-6, "approximate_delta": 1e-6 / 1024}


def with_policies(study: Study, **changes) -> Study:
    policies = {site: {"policy": POLICY | changes} for site in study.sites}
    return small_study("mst", epsilon=2.0, sites=policies)


def test_a_study_that_chooses_on_shares_is_paid_once_and_gives_its_stored_answer_again(tmp_path):
    study = with_policies(small_study())
    first = simulate(study, small_frames(), out=tmp_path)
    [priced] = [step.event for step in plan(study)]
    rho, delta = rho_and_delta(priced)
    for site in study.sites:
        path = f"sqlite:///{tmp_path / 'ledgers' / site}.db"
        assert verify(path).ok
        with open_ledger(path, site=site) as ledger:
            spent = ledger.remaining("private").spent
        assert spent["rho"] == pytest.approx(rho)
        assert spent["delta"] == pytest.approx(delta)
        assert spent["delta"] > 0
    again = simulate(study, small_frames(), out=tmp_path)
    pd.testing.assert_frame_equal(first.table, again.table)
    assert [step.rounds for step in again.released.steps] == [0]
    assert [account.rho_spent for account in again.released.accounts] == [
        account.rho_spent for account in first.released.accounts
    ]
    assert first.released.synthetic.mechanism == "MST"
    assert "MST" in first.report


def test_a_site_that_set_nothing_aside_refuses_and_says_what_would_do(tmp_path):
    study = with_policies(small_study(), approximate_delta=0.0)
    with pytest.raises(SiteRefused, match="approximate_delta") as refused:
        simulate(study, small_frames(), out=tmp_path)
    assert refused.value.reason == "budget"
    for site in study.sites:
        with open_ledger(f"sqlite:///{tmp_path / 'ledgers' / site}.db", site=site) as ledger:
            assert ledger.remaining("private").rho_spent == 0


def test_a_table_of_more_patients_than_its_policy_states_is_not_opened(tmp_path):
    with pytest.raises(StudyError, match="more than 300 patients"):
        simulate(small_study(federation={"most_patients": 300}), small_frames(), out=tmp_path)


def test_a_bound_on_patients_of_the_researchers_choice_does_not_count_a_table(tmp_path):
    # Refused or not, by the site's public number alone: below it always, whatever the table has.
    policy = SitePolicy(9.0, 1e-6, partners=frozenset(small_frames()), max_patients=1000, approximate_delta=1e-9)
    said = set()
    for n in (20, 300):
        for bound in (250, 350, 999):
            folder = tmp_path / f"{n}-{bound}"
            folder.mkdir()
            ledger = open_ledger(f"sqlite:///{folder}/ledger.db", site="vienna")
            frame = small_frames()["vienna"].head(n)
            schema = small_study().data_schema
            site = Site("vienna", frame, schema, ledger=ledger, policy=policy, secret=b"s" * 32)
            study = small_study(federation={"most_patients": bound})
            with pytest.raises(SiteRefused) as refused:
                site.consider(study.signed(Signer()))
            said.add((refused.value.reason, refused.value.explanation))
            ledger.close()
    assert said == {("cohort", "the study must allow for 1000 patients at this site")}


def test_a_site_that_shares_no_counts_is_named_and_nothing_is_opened(tmp_path, monkeypatch):
    from synthema import job

    count = job.synthesis_vector

    def lies(study, data):
        vector = count(study, data)
        vector[0] += 7 * (data.n_rows_at_least(300) and not data.n_rows_at_least(301))
        return vector

    monkeypatch.setattr(job, "synthesis_vector", lies)
    with pytest.raises(SiteInputInvalid) as found:
        simulate(small_study(epsilon=1.0), small_frames(), out=tmp_path)
    assert found.value.site == "madrid"


def test_a_party_that_refuses_a_question_stops_the_study_and_the_step_stays_charged(tmp_path, monkeypatch):
    from synthema.conducting import Clerk

    pay = Clerk._pay

    def stingy(self, event):
        if self._session.party == 1:
            raise QuestionRefused("a question costs more than is left of what the study was priced at")
        pay(self, event)

    monkeypatch.setattr(Clerk, "_pay", stingy)
    with pytest.raises(QuestionRefused, match="costs more"):
        simulate(small_study(epsilon=1.0), small_frames(), out=tmp_path)
    for site in small_frames():
        with open_ledger(f"sqlite:///{tmp_path / 'ledgers' / site}.db", site=site) as ledger:
            assert ledger.remaining("private").rho_spent > 0


@pytest.mark.parametrize(("mechanism", "columns"), [("mst", ["age", "sex", "event"]), ("aim", ["sex", "tpi", "event"])])
def test_leukaemia_patients_of_five_hospitals_few_columns(mechanism, columns):
    demo = demo_study()
    study = small_study(
        mechanism,
        epsilon=3.0,
        study={"schema": demo.data_schema},
        sites={site: {} for site in demo.sites},
        synthesis={"columns": columns, "rows": 200},
    )
    outcome = simulate(study, demo_frames())
    assert set(outcome.table.columns) == set(columns)
    assert len(outcome.table) == 200
    [step] = outcome.released.steps
    assert step.rounds > 10
    assert step.epsilon_alone <= 3.0
    assert abs((outcome.table["sex"] == "M").mean() - 0.52) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["shares", "joint"])
@pytest.mark.parametrize("mechanism", ["mst", "aim", "privbayes", "adaptive", "independent"])
def test_leukaemia_patients_of_five_hospitals(mechanism, noise):
    demo = demo_study()
    study = small_study(
        mechanism,
        epsilon=3.0,
        study={"schema": demo.data_schema},
        sites={site: {} for site in demo.sites},
        synthesis={"noise": noise, "rows": 1000},
    )
    outcome = simulate(study, demo_frames())
    assert len(outcome.table) == 1000
    columns = {column.column: column for column in outcome.released.synthetic.columns}
    exact = pd.concat(demo_frames().values())["sex"].value_counts()
    noisy = dict(zip(columns["sex"].labels, columns["sex"].noisy_counts, strict=True))
    # Noise beyond seven standard deviations has a probability of 3e-12.
    assert all(abs(noisy[label] - exact[label]) <= 7 * columns["sex"].noise_std for label in exact.index)


# ------------------------------------------------------------ answers


def test_an_answer_of_the_time_when_counts_alone_were_stored_is_still_one(monkeypatch):
    study = small_study("chow-liu", epsilon=3.0)
    domain, codes = Domain.from_schema(SCHEMA), encode(pooled_frame(), SCHEMA)
    counts = [count_marginal(codes, domain, clique) for clique in synthesis_cliques(study)]
    vector = np.concatenate([part.ravel() for part in counts])
    answer = answer_of_counts(study, vector)
    assert np.array_equal(np.concatenate([item.values.ravel() for item in answer_measurements(answer)]), vector)
    assert len(answer_table(answer)) == 60
    assert {frozenset(edge) for edge in answer["edges"]} >= {frozenset("ab"), frozenset("bd")}

    def stored(_self, _step, _work, *, encode, decode):  # noqa: ARG001
        return decode(vector)

    monkeypatch.setattr(EmbeddedNetwork, "run_step", stored)
    network = object.__new__(EmbeddedNetwork)
    network.study = study
    assert joint.synthesise(network)["measurements"] == answer["measurements"]
    with pytest.raises(StudyError, match="chooses what it measures"):
        answer_of_counts(small_study("mst"), vector)


def test_every_kind_of_column_survives_the_way_into_an_answer_and_back():
    table = pd.DataFrame(
        {
            "text": pd.Series(["x", None, "é"], dtype=object),
            "whole": np.array([1, -2, 2**60]),
            "real": [0.1, np.nan, -1e300],
            "time": np.array(["2020-01-01", "NaT", "1969-12-31T23:59:59"], dtype="datetime64[s]"),
        }
    )
    study = small_study("mst")
    answer = make_answer(study, [], edges=[], cliques=[], table=table, n_choices=0, spent=[])
    json.dumps(answer, allow_nan=False)
    pd.testing.assert_frame_equal(answer_table(answer), table)
    with pytest.raises(QuestionRefused):
        read_answer(b"{}")


def test_a_pair_measured_with_merged_codes_is_compared_with_merged_codes():
    from generators import Measurement

    frame = pooled_frame()
    merged = pd.crosstab(frame["a"], frame["b"].replace({"2": "1"})).to_numpy()
    item = Measurement(("a", "b"), merged, 1.0, (None, np.array([0, 1, 1])))
    [pair] = compare_pairs(frame, SCHEMA, [item], set())
    # The table is the measured one: no distance but that of the totals.
    assert pair.columns == ("a", "b")
    assert pair.distance == pytest.approx(0.0, abs=1e-9)
