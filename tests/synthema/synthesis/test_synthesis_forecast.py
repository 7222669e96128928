"""What was forecast, against what runs take."""

import pytest
from synthesis_members import run, small_study

from synthema.synthesis_forecast import synthesis_material

LONGEST = [pytest.param(name, marks=pytest.mark.slow) for name in ("aim", "adaptive")]


@pytest.mark.parametrize("mechanism", ["chow-liu", "independent", "mst", "privbayes", *LONGEST])
def test_a_run_takes_no_more_than_was_forecast(mechanism):
    study = small_study(mechanism, epsilon=1.0)
    said, cost = synthesis_material(study), run(study).cost
    assert cost.rounds <= said.rounds
    assert set(cost.material) <= set(said.material)
    assert all(count <= said.material[kind] for kind, count in cost.material.items())
    if mechanism in ("chow-liu", "independent"):
        assert (cost.rounds, said.choices) == (said.rounds, 0)
    if mechanism == "mst":
        # All but what depends on which candidates are left: a forecast, not a guess.
        assert cost.rounds >= said.rounds / 2
        assert cost.dealer_bytes >= said.dealer_bytes / 3
