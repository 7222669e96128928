"""Kaplan-Meier curves as a model of a study."""

from __future__ import annotations

import pytest
from clinics import leukaemia, pooled

from synthema.errors import SiteRefused
from synthema.learning import KaplanMeier
from synthema.submitters import SimulatedNetwork


def test_counts_that_are_opened_are_those_of_the_pooled_rows() -> None:
    frames, job = leukaemia()
    model = KaplanMeier(group="sex", grid_days=180).fit(SimulatedNetwork(frames), job)
    rows = pooled(frames)
    for label, group in zip(("F", "M"), model.answer_["groups"], strict=True):
        own = rows[rows["sex"] == label]
        events = [
            ((own["event"] == "1") & (own["time"] > 180 * t) & (own["time"] <= 180 * (t + 1))).sum() for t in range(4)
        ]
        # Day 0 belongs to the first interval.
        events[0] += ((own["event"] == "1") & (own["time"] == 0)).sum()
        assert group["events"][:4] == events
    assert "sex = F" in str(model.summary())
    again = KaplanMeier.from_json(model.to_json())
    assert str(again.summary()) == str(model.summary())


def test_a_site_that_allows_no_exact_release_refuses() -> None:
    frames, job = leukaemia(policy={"epsilon_cap": 1.0, "delta_cap": 1e-6})
    with pytest.raises(SiteRefused, match="no exact releases"):
        KaplanMeier(group="sex", grid_days=180).fit(SimulatedNetwork(frames), job)
