"""What a site that lies about its counts could learn of another's patient: why choices need the full check."""

import numpy as np
import pytest
from synthesis_members import small_frames, small_study

from generators import encode
from smpc import PartyFailed, run_local, share
from synthema.conducting import synthesis_vector
from synthema.errors import SiteInputInvalid
from synthema.marginal_layout import synthesis_layout
from synthema.shared_marginals import SharedMarginals
from synthema.steps import terms_of
from synthema.validity import check_contributions

# Comparisons of this study's distances are of 16 bits: 1200 rows in sixteenths. Its budget could not be smaller.
HALF_RANGE, EPSILON = (1 << 15) // 16, 0.01


def vectors(study, *, without_a_patient):
    """Each site's counts; madrid moves so many patients from one code of `a` to the other that pooled counts wrap."""
    frames, layout = small_frames(), synthesis_layout(study)
    schema = study.data_schema.subset(study.synthesis_columns)
    honest = {site: synthesis_vector(study, encode(frame, schema)) for site, frame in frames.items()}
    moved = HALF_RANGE - sum(int(layout.read(vector, ("a",))[0]) for vector in honest.values())
    for clique in layout.cliques:
        if "a" in clique:
            # A view: reshaping a slice of the vector does not copy.
            table = layout.read(honest["madrid"], clique)
            table[tuple(0 for _ in clique)] += moved
            table[tuple(int(name == "a") for name in clique)] -= moved
    if without_a_patient:
        rows = frames["vienna"]
        left = rows.drop(index=rows.index[rows["a"] == "0"][0])
        honest["vienna"] = synthesis_vector(study, encode(left, schema))
    return list(honest.values())


def chosen(level, *, without_a_patient):
    """Return what a choice at next to no epsilon opens, after the check."""
    study = small_study(epsilon=1.0, federation={"most_patients": 400})
    layout, terms, sites = synthesis_layout(study), terms_of(study), tuple(study.sites)
    packages = [share(vector, 3) for vector in vectors(study, without_a_patient=without_a_patient)]
    choice = terms.choice(EPSILON, largest_weight=1, n_candidates=2)

    async def protocol(session, mine):
        await check_contributions(session, layout, mine, sites=sites, cap=study.largest_cohort, level=level)
        shared = SharedMarginals(session, mine, layout, terms)
        zeros = np.zeros(layout.sizes["a"] + layout.sizes["b"], dtype=np.int64)
        return await shared.select(
            [("a",), ("b",)], (-1, -1), zeros, choice, weights=(1, 1), penalties=(0, 0), groups={}
        )

    return run_local(protocol, [[site[party] for site in packages] for party in range(3)]).results[0]


def test_the_full_check_stops_a_site_whose_counts_would_wrap():
    with pytest.raises(PartyFailed) as failed:
        chosen("full", without_a_patient=False)
    found = failed.value.__cause__
    assert isinstance(found, SiteInputInvalid)
    assert (found.site, found.rule) == ("madrid", "cells")


def test_the_check_of_totals_does_not_and_then_a_choice_tells_one_patient():
    # Noise of scale 16 / 0.005 could not tell them apart: 8 choices would agree on both sides with chance below 2^-14.
    with_all = {chosen("totals", without_a_patient=False) for _ in range(8)}
    without = {chosen("totals", without_a_patient=True) for _ in range(8)}
    assert (with_all, without) == ({1}, {0})
