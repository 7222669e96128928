"""What exact trees tell of patients, to an adversary who knows much: all covariates of all patients, and the ensemble.

p, H are then known to the adversary for every leaf, so each value is an equation about the outcomes of its patients,
solved here by the best linear guess: outcomes are p and vary by p (1 - p), and rounding adds a uniform error.
"""

from __future__ import annotations

import boosting_oracle as oracle
import numpy as np
import pytest
from test_boosting import ASKED, COVARIATES, SCHEMA, clinic_frames, simulated, small_job

from privacy import Schema
from synthema.errors import SiteRefused
from synthema.learning import GradientBoosting
from synthema.learning.tree_splits import Features
from synthema.submitters import SimulatedNetwork

FEATURES = Features.of(Schema.from_dict(SCHEMA), COVARIATES, max_bins=10)


def equations(codes, start, trees):
    """Who is in each leaf, how many had the event as the value says it, and the model's own p. l2 is 1, the rate .1."""
    members, found, total = [], [], np.zeros(len(codes))
    for tree in trees:
        p = 1 / (1 + np.exp(-np.clip(start + 0.1 * total / 4096, -5, 5)))
        waiting = [(tree, np.arange(len(codes)))]
        while waiting:
            node, rows = waiting.pop()
            if not isinstance(node, int):
                (j, mask), left, right = node
                goes = mask[codes[rows, j]]
                waiting += [(left, rows[goes]), (right, rows[~goes])]
                continue
            members.append(np.isin(np.arange(len(codes)), rows).astype(float))
            found.append(p[rows].sum() + node / 4096 * ((p * (1 - p))[rows].sum() + 1))
            total[rows] += node
    return np.array(members), np.array(found), 1 / (1 + np.exp(-(start + 0.1 * total / 4096)))


def guess(members, found, p, rounded_to):
    """The best linear guess of each outcome."""
    spread = p * (1 - p)
    error = rounded_to**2 / 12 + 1e-6
    kept = members * spread
    return p + kept.T @ np.linalg.solve(kept @ members.T + error * np.eye(len(members)), found - members @ p)


def attacked(n, seed, *, rounded, **rules):
    """Return how much of the outcomes the model alone says, and the attack; and how many sums are read exactly."""
    rows = simulated(n, seed)
    codes, y = FEATURES.encode(rows).T.astype(int), (rows["relapse"] == "yes").to_numpy().astype(int)
    start, trees = oracle.fit(codes, y, FEATURES.columns, rounded=rounded, **rules)
    members, found, p = equations(codes, start, trees)
    guessed = guess(members, found, p, 8 if rounded else 0)
    read = float((np.rint(found) == members @ y).mean())
    return float(((p > 0.5) == y).mean()), float(((guessed > 0.5) == y).mean()), read


def test_within_the_rules_the_values_tell_no_more_than_the_model_is_for() -> None:
    # 60 leaves, for which 182 patients with and without the event are asked; 450 patients.
    model, attack, read = np.mean([attacked(450, seed, rounded=True, rounds=15, depth=2) for seed in range(4)], axis=0)
    assert attack < model + 0.015
    assert read < 0.4


@pytest.mark.slow
def test_without_the_rules_the_same_attack_reads_the_outcomes() -> None:
    rules = {"rounds": 100, "depth": 3, "min_leaf": 1, "min_cell": 0}
    model, attack, read = np.mean([attacked(150, seed, rounded=False, **rules) for seed in range(2)], axis=0)
    assert read > 0.99
    assert attack > 0.93
    assert attack > model + 0.05


def test_two_leaves_that_differ_by_one_patient_do_not_tell_that_patients_outcome() -> None:
    random = np.random.default_rng(0)
    right = {True: [], False: []}
    for _ in range(2000):
        p = random.uniform(0.2, 0.8, 60)
        y = random.random(60) < p
        y[0], p[0] = random.random() < 0.5, 0.5
        g = np.rint((p - y) * 4096).astype(int)
        for rounded in (True, False):
            sums = [int(part.sum()) for part in (g, g[1:])]
            if rounded:
                sums = [8 * 4096 * oracle.nearest(each, 8 * 4096) for each in sums]
            apart = sums[0] - sums[1]
            says = random.random() < 0.5 if apart == 0 else apart < 0
            right[rounded].append(says == y[0])
    assert np.mean(right[False]) == 1
    # A half by chance, and a multiple of 8 lies between the two in one of sixteen cases.
    assert np.mean(right[True]) == pytest.approx(0.5 + 0.5 / 16, abs=4 * 0.5 / np.sqrt(2000))


def test_the_same_trees_of_one_patient_fewer_are_refused(tmp_path) -> None:
    frames, asked = clinic_frames(), ASKED | {"rounds": 1}
    GradientBoosting(**asked).fit(SimulatedNetwork(frames, out=tmp_path), small_job())
    frames["milan"] = frames["milan"].iloc[1:]
    with pytest.raises(SiteRefused) as caught:
        GradientBoosting(**asked).fit(SimulatedNetwork(frames, out=tmp_path), small_job(name="another"))
    assert caught.value.reason == "exact-again"
