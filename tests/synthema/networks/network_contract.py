"""What every network must do, whatever carries its messages: an abstract class of tests, a subclass for each driver."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from network_members import DEALER, SITES, small_study

from generators import Domain, count_marginal, encode
from synthema.errors import SiteFailed, SiteRefused
from synthema.steps import synthesis_cliques


class NetworkContract:
    """`federation` gives a started federation of three sites."""

    @pytest.fixture
    def federation(self) -> Iterator[Any]:
        raise NotImplementedError

    def test_what_is_opened_is_the_pooled_marginals_and_the_stated_noise(self, federation: Any) -> None:
        study = small_study(epsilon=20.0)
        released = federation.run(study)["released"]
        schema = study.data_schema
        domain = Domain.from_schema(schema)
        codes = [encode(frame, schema) for frame in federation.frames.values()]
        for column in released["synthetic"]["columns"]:
            pooled = sum(count_marginal(each, domain, (column["column"],)) for each in codes)
            apart = np.abs(np.array(column["noisy_counts"]) - pooled)
            # 12 cells, each beyond 7 standard deviations with probability below 1e-11.
            assert apart.max() <= 7 * column["noise_std"]
            assert column["noise_std"] < 5

    def test_every_site_pays_the_same_and_once(self, federation: Any) -> None:
        study = small_study()
        first = federation.run(study)
        spent = federation.spent()
        assert len(set(spent.values())) == 1
        assert spent["vienna"] > 0
        # The same study again is the stored answer: nothing is charged, and nothing is drawn again.
        second = federation.run(study)
        assert federation.spent() == spent
        columns = [each["released"]["synthetic"]["columns"] for each in (first, second)]
        assert [c["noisy_counts"] for c in columns[0]] == [c["noisy_counts"] for c in columns[1]]

    def test_one_refusal_leaves_nothing_charged_anywhere(self, federation: Any) -> None:
        federation.policies["milan"]["min_patients"] = 1000
        with pytest.raises(SiteRefused) as refused:
            federation.run(small_study())
        assert (refused.value.site, refused.value.reason) == ("milan", "cohort")
        assert set(federation.spent().values()) == {0.0}

    def test_a_site_that_waits_for_its_operator_holds_the_job_up(self, federation: Any) -> None:
        federation.operators["madrid"].says = "waiting"
        # A network may say so at once, or when the time to decide is over.
        with pytest.raises((SiteRefused, SiteFailed), match="madrid"):
            federation.run(small_study(), offer_within=1.5)
        assert set(federation.spent().values()) == {0.0}

    def test_a_site_that_fails_in_a_step_is_named_and_the_step_stays_charged(
        self, federation: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from synthema.job import SiteJob

        count = SiteJob.marginal_counts

        def fails_at_milan(job: SiteJob) -> Any:
            if job.site.name == "milan":
                raise ZeroDivisionError("a text with a patient's value")
            return count(job)

        monkeypatch.setattr(SiteJob, "marginal_counts", fails_at_milan)
        with pytest.raises(SiteFailed) as failed:
            federation.run(small_study())
        assert (failed.value.site, failed.value.step) == ("milan", "marginals")
        assert "patient" not in str(failed.value)
        assert len(set(federation.spent().values())) == 1
        assert federation.spent()["milan"] > 0
        monkeypatch.undo()
        # A second try of the same study would be a second draw for one charge.
        with pytest.raises(SiteRefused) as refused:
            federation.run(small_study())
        assert refused.value.reason == "spent"
        # Under a new name it is a new charge.
        federation.run(small_study("pilot-2"))

    def test_a_mechanism_that_selects_runs_on_shares_with_a_dealers_material(self, federation: Any) -> None:
        study = small_study(
            "tree",
            epsilon=20.0,
            federation={"dealer": DEALER},
            synthesis={"rows": 50, "mechanism": "mst"},
        )
        result = federation.run(study)
        steps = {step["step"]: step for step in result["costs"]["steps"]}
        assert steps["marginals"]["rounds"] > 10
        assert len(result["synthetic"].splitlines()) == 51
        assert len(set(federation.spent().values())) == 1

    def test_studies_follow_each_other(self, federation: Any) -> None:
        for number in range(3):
            result = federation.run(small_study(f"pilot-{number}", epsilon=1.0))
            assert sorted(result["synthetic"].splitlines()[0].split(",")) == ["age", "grade", "sex"]
        assert len(synthesis_cliques(small_study())) == 6
        assert set(federation.spent()) == set(SITES)

    def test_a_study_that_needs_a_dealer_and_names_none_is_refused_before_it_costs_anything(
        self, federation: Any
    ) -> None:
        with pytest.raises(SiteRefused, match="name the dealer") as refused:
            federation.run(small_study("no-dealer", synthesis={"rows": 50, "mechanism": "mst"}))
        assert refused.value.reason == "document"
        assert set(federation.spent().values()) == {0.0}
