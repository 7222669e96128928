"""MST on the peer's inference, as its paper says: thirds of rho, Kruskal by exponential mechanisms, merged rare codes.

Source: McKenna, Miklau, Sheldon 2021, arXiv:2108.04978, Algorithm 1 and section 3.2; inference by `mbi` 2.0. Noise is
floating-point, as is usual there: a comparison of utility and speed, not a release.
"""

from __future__ import annotations

import itertools
import math

import jax
import mbi
import numpy as np
from mbi.estimation import MirrorDescent

# What the peer's published script does for the 1-way model and for the tree.
ONE_WAY_STEPS, TREE_STEPS = 2_500, 10_000


def rho_of(epsilon, delta):
    """Largest rho whose (epsilon, delta) holds (Canonne, Kamath, Steinke 2020, Proposition 12), by bisection."""
    orders = 1 + np.geomspace(1e-3, 1e5, 4_000)

    def delta_of(rho):
        log_delta = (orders - 1) * (orders * rho - epsilon) + orders * np.log1p(-1 / orders) - np.log(orders - 1)
        return math.exp(min(0.0, float(log_delta.min())))

    low, high = 0.0, epsilon + 1.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(middle) <= delta else (low, middle)
    return low


def mst(codes, sizes, *, epsilon, delta, rng):
    jax.config.update("jax_enable_x64", True)
    np.random.seed(int(rng.integers(2**31)))  # noqa: NPY002 - the peer samples from the global source
    names = list(sizes)
    data = mbi.Dataset({name: codes[:, i].astype(np.int64) for i, name in enumerate(names)}, mbi.Domain.fromdict(sizes))
    part = rho_of(epsilon, delta) / 3
    std = math.sqrt(len(names) / (2 * part))
    noisy = {name: data.project((name,)).datavector() + rng.normal(0, std, sizes[name]) for name in names}

    # Codes within three standard deviations of zero are merged into one, the last.
    mapping = {}
    for name, counts in noisy.items():
        kept = np.asarray(counts) >= 3 * std
        if kept.sum() < kept.size - 1:
            mapping[name] = np.where(kept, np.cumsum(kept) - 1, kept.sum())
    small = data.compress(mapping)
    measured = [
        mbi.LinearMeasurement(counts, (name,), std).compress(mapping, data.domain) for name, counts in noisy.items()
    ]

    model = MirrorDescent().estimate(small.domain, measured, iters=ONE_WAY_STEPS)
    scores = {
        pair: float(np.abs(small.project(pair).datavector() - np.asarray(model.project(pair).datavector())).sum())
        for pair in itertools.combinations(names, 2)
    }
    tree, epsilon_each = {name: name for name in names}, math.sqrt(8 * part / (len(names) - 1))

    def root(name):
        while tree[name] != name:
            name = tree[name]
        return name

    edges = []
    for _ in range(len(names) - 1):
        open_pairs = [pair for pair in scores if root(pair[0]) != root(pair[1])]
        perturbed = [epsilon_each / 2 * scores[pair] + rng.gumbel() for pair in open_pairs]
        chosen = open_pairs[int(np.argmax(perturbed))]
        tree[root(chosen[0])] = root(chosen[1])
        edges.append(chosen)

    std = math.sqrt(len(edges) / (2 * part))
    for pair in edges:
        counts = small.project(pair).datavector()
        measured.append(mbi.LinearMeasurement(counts + rng.normal(0, std, counts.size), pair, std))
    model = MirrorDescent().estimate(small.domain, measured, iters=TREE_STEPS)
    table = model.synthetic_data(rows=len(codes)).decompress(mapping).to_dict()
    return np.stack([np.asarray(table[name]) for name in names], axis=1)
