"""Error of joint synthesis beside that of one trusted table: LeukSurv over 5 districts, Adult over 10 uneven sites.

By hand, because Adult takes minutes:

    python benchmarks/compare_federated.py --tables leuksurv --seeds 20 --out runs.jsonl
    python benchmarks/compare_federated.py --tables adult --seeds 5 --out runs.jsonl
    python benchmarks/compare_federated.py --out runs.jsonl --report
    python benchmarks/compare_federated.py --check-shares

Runs that the file holds are not repeated. L1_k is the mean over all k-way marginals of the L1 distance between the real
and the synthetic distribution (not halved), for a synthetic table of as many rows. Modes (n = 3 compute parties):

    central    one trusted table: discrete Gaussian noise, exponential mechanism
    ruler-t    as central, with the total noise variance of joint-t
    joint-t    every party adds noise, t may collude; choices by the exponential mechanism on shares
    sampled    noise drawn jointly on shares; choices by the exponential mechanism on shares
    local-t    noise as joint-t; each site votes by its own exponential mechanism (`synthema.local_selection`), on
               sizes that cost 2 % of the budget

The joint modes run on `_federated_oracles`, which answer by the same law; `--check-shares` compares a run on shares
with it, number by number. `--split age` gives the sites other patients each: rows by age instead of at random.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import _federated_oracles as oracles  # noqa: E402
import _generator_tables as tables  # noqa: E402

import generators  # noqa: E402
from generators import Domain, TableOracle, encode  # noqa: E402
from generators.marginals import count_marginals  # noqa: E402
from privacy import InsecureSeededRng, epsilon_to_rho  # noqa: E402
from privacy.samplers import sample_discrete_gaussian  # noqa: E402
from synthema.demo import demo_frames, demo_study  # noqa: E402
from synthema.local_selection import LocalSelection  # noqa: E402

DELTA = 1e-9
MODES = ("central", "ruler-1", "ruler-2", "joint-1", "joint-2", "sampled", "local-1", "local-2")
# Part of the budget that tells the sites' sizes in local mode.
SIZE_SHARE = 0.02
# Adult's sites: each has three quarters of the rows of the one before.
ADULT_SITES, ADULT_RATIO = 10, 0.75


@lru_cache
def load(name, split):
    """Return schema, and each site's codes."""
    if name == "leuksurv":
        schema = demo_study().data_schema
        return schema, [encode(frame, schema) for frame in demo_frames().values()]
    codes, sizes = tables.load(name)
    weights = ADULT_RATIO ** np.arange(ADULT_SITES)
    ends = np.rint(np.cumsum(weights / weights.sum()) * len(codes)).astype(int)[:-1]
    rng = np.random.default_rng(0)
    order = rng.permutation(len(codes))
    if split == "age":
        order = order[np.argsort(codes[order, list(sizes).index("age")], kind="stable")]
    return tables.schema_of(sizes), [np.asfortranarray(codes[part]) for part in np.split(order, ends)]


def oracle_of(mode, schema, sites, rho, seed):
    """Return the oracle of a mode, and the budget that is left to the mechanism."""
    pooled, rng = np.asfortranarray(np.concatenate(sites)), InsecureSeededRng(seed)
    kind, _, threshold = mode.partition("-")
    own_patients = lambda codes: None if schema.patient_id is None else np.arange(len(codes))  # noqa: E731
    named = {"central": TableOracle, "ruler": oracles.SameNoise, "joint": oracles.Joint, "sampled": oracles.Sampled}
    oracle = named.get(kind, oracles.Joint).from_codes(pooled, schema, patients=own_patients(pooled), rng=rng)
    if threshold:
        oracle.threshold = int(threshold)
    if kind != "local":
        return oracle, rho
    noise = sample_discrete_gaussian(math.sqrt(1 / (2 * SIZE_SHARE * rho)), len(sites), rng=rng)
    names = [f"site{i}" for i in range(len(sites))]
    own = {
        name: TableOracle.from_codes(codes, schema, patients=own_patients(codes), rng=rng)
        for name, codes in zip(names, sites, strict=True)
    }
    sizes = {name: max(len(codes) + int(noise[i]), 1) for i, (name, codes) in enumerate(zip(names, sites, strict=True))}
    return LocalSelection(oracle, own, sizes=sizes), rho * (1 - SIZE_SHARE)


def errors(real, synthetic, domain):
    """Return L1_2 and L1_3."""
    out = []
    for k in (2, 3):
        cliques = list(itertools.combinations(domain.columns, k))
        distances = [
            np.abs(a / len(real) - b / len(synthetic)).sum()
            for clique in cliques
            for [a], [b] in [(count_marginals(real, domain, [clique]), count_marginals(synthetic, domain, [clique]))]
        ]
        out.append(float(np.mean(distances)))
    return out


def run(table, split, mechanism, epsilon, mode, seed):
    schema, sites = load(table, split)
    start = time.process_time()
    oracle, rho = oracle_of(mode, schema, sites, epsilon_to_rho(epsilon, DELTA), seed)
    model = getattr(generators, mechanism)(rho=rho).fit(None, schema, oracle=oracle)
    real = np.concatenate(sites)
    synthetic = model.sample_codes(len(real), rng=np.random.default_rng(seed))
    seconds = time.process_time() - start
    l1_2, l1_3 = errors(real, synthetic, Domain.from_schema(schema))
    key = {"table": table, "split": split, "mechanism": mechanism, "epsilon": epsilon, "mode": mode, "seed": seed}
    return {**key, "l1_2": l1_2, "l1_3": l1_3, "processor_seconds": seconds}


def ratio_of(mine, theirs):
    """Return the ratio of mean errors over the same seeds, and its standard error (delta method, paired)."""
    seeds = sorted(set(mine) & set(theirs))
    a, b = (np.array([errors[seed] for seed in seeds]) for errors in (mine, theirs))
    ratio = a.mean() / b.mean()
    return ratio, float(np.std(a - ratio * b, ddof=1) / math.sqrt(len(seeds)) / b.mean()) if len(
        seeds
    ) > 1 else math.nan


def report(rows):
    """Print one line for each mode of each case."""
    frame = pd.DataFrame(rows).drop_duplicates(["table", "split", "mechanism", "epsilon", "mode", "seed"])
    print(
        "| table | split | mechanism | epsilon | mode | seeds | L1_3 (s.e.) | L1_2 | / central (s.e.) | / ruler (s.e.) "
        "| processor s |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    for case, part in frame.groupby(["table", "split", "mechanism", "epsilon"], sort=False):
        by_mode = {mode: dict(zip(some["seed"], some["l1_3"], strict=True)) for mode, some in part.groupby("mode")}
        for mode in (mode for mode in MODES if mode in by_mode):
            some = part[part["mode"] == mode]
            cells = []
            for other in ("central", f"ruler-{mode[-1]}"):
                if other in by_mode and mode != other and (other == "central" or mode[:5] in {"joint", "local"}):
                    cells.append("{:.3f} ({:.3f})".format(*ratio_of(by_mode[mode], by_mode[other])))
                else:
                    cells.append("-")
            error = statistics.stdev(some["l1_3"]) / math.sqrt(len(some)) if len(some) > 1 else math.nan
            print(
                "| {} | {} | {} | {:g} | {} | {} | {:.4f} ({:.4f}) | {:.4f} | {} | {} | {:.2f} |".format(
                    *case, mode, len(some), some["l1_3"].mean(), error, some["l1_2"].mean(), *cells,
                    some["processor_seconds"].median(),
                )
            )  # fmt: skip


def check_shares():
    """Answer the same questions on shares, with the parties' noise written down; compare with pooled + noise."""
    from unittest import mock

    from smpc.bitplanes import unpack_bits
    from smpc.noise import exponential, exponential_law, shares
    from synthema.embedded_marginals import EmbeddedMarginals

    schema, frames = demo_study().data_schema, demo_frames()
    domain = Domain.from_schema(schema)
    pooled = encode(pd.concat(frames.values(), ignore_index=True), schema)
    oracle = EmbeddedMarginals(frames, schema)
    cliques = list(itertools.combinations(domain.columns, 2))
    drawn, words = [], []

    def noise(scale, size, *, rng):
        drawn.append(sample_discrete_gaussian(scale, size, rng=rng))
        return drawn[-1]

    def random_words(session, *shape):
        words.append(own_words(session, *shape))
        return words[-1]

    own_words = exponential.random_words
    with (
        mock.patch.object(shares, "sample_discrete_gaussian", noise),
        mock.patch.object(exponential, "random_words", random_words),
    ):
        measured = oracle.measure(cliques, rho=0.01)
        estimates = [np.full(domain.sizes(clique), len(pooled) / domain.cells(clique)) for clique in cliques]
        chosen = oracle.select(cliques, estimates, epsilon=0.1)
    counts = np.concatenate([part.ravel() for part in count_marginals(pooled, domain, cliques)])
    opened = np.concatenate([part.values.ravel() for part in measured])
    equal = np.array_equal(opened, counts + np.sum(drawn, axis=0))
    scores = [
        int(np.abs((part << 4) - np.rint(estimate * 16).astype(np.int64)).sum())
        for part, estimate in zip(count_marginals(pooled, domain, cliques), estimates, strict=True)
    ]
    law, _ = exponential_law(0.1, 16, len(cliques))
    bits = unpack_bits(np.bitwise_xor.reduce(words), 4 * law.n_limbs)
    r = sum(int(bit) << place for place, bit in enumerate(bits)) / 2.0 ** len(bits)
    wanted = int(np.searchsorted(np.cumsum(law.ideal(scores)), r, side="right"))
    print(
        f"shares, {len(frames)} sites, {len(drawn)} parties: {opened.size} opened counts equal pooled + the parties' "
        f"noise: {equal}; the opened choice is where the parties' random number falls among the weights of the pooled "
        f"scores: {chosen == wanted}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=["leuksurv", "adult"], choices=("leuksurv", "adult"))
    parser.add_argument("--split", default="random", choices=("random", "age"), help="of Adult")
    parser.add_argument("--mechanisms", nargs="+", default=["MST", "AIM"])
    parser.add_argument("--epsilons", nargs="+", type=float, default=[1.0, 10.0])
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON lines: earlier runs are kept and not repeated")
    parser.add_argument("--report", action="store_true", help="print the table of what the file holds, run nothing")
    parser.add_argument("--check-shares", action="store_true", help="compare one real run on shares with the law")
    chosen = parser.parse_args()
    if chosen.check_shares:
        check_shares()
        return
    lines = chosen.out.read_text().splitlines() if chosen.out and chosen.out.exists() else []
    rows = [json.loads(line) for line in lines]
    done = {tuple(list(row.values())[:6]) for row in rows}
    cases = itertools.product(chosen.tables, chosen.mechanisms, chosen.epsilons, range(chosen.seeds), chosen.modes)
    for table, mechanism, epsilon, seed, mode in () if chosen.report else cases:
        split = "district" if table == "leuksurv" else chosen.split
        if (table, split, mechanism, epsilon, mode, seed) in done:
            continue
        rows.append(run(table, split, mechanism, epsilon, mode, seed))
        if chosen.out:
            with chosen.out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    report(rows)


if __name__ == "__main__":
    main()
