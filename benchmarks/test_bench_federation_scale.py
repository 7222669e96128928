"""A federation larger than one can set up, in one process: 20 sites of the AML example, 100 sites and a thousand sums.

Run: pytest benchmarks/test_bench_federation_scale.py --benchmark-enable; on a busy machine with
--benchmark-timer=time.process_time. Where nothing is timed, smaller federations run the same code.

"end to end" is a Chow-Liu study over all 144 modelled columns: every site looks at the signed study, reserves in its
own SQLite ledger, starts the charge, counts all 10,296 pairs, shares them; three compute parties add up, make noise
that none of them knows, open; the lead fits the tree and draws the table; every party checks the answer, and every site
stores it and posts. Printed beside the time: what is sent. The parts are timed by themselves below it.
"""

from __future__ import annotations

import itertools
import secrets
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from generators import ChowLiu, Domain, TableOracle, encode
from generators.domain import one_way_cliques, two_way_cliques
from generators.indicators import count_by_product
from generators.marginals import _count, count_in_passes, count_marginals
from privacy.ledger import open_ledger
from smpc import pool, secure_sum_local, share
from synthema.aml import aml_schema, simulated_aml_patients, simulated_aml_sites
from synthema.joint import synthesise
from synthema.networks.embedded import EmbeddedNetwork
from synthema.networks.sums import simulate_sums
from synthema.pipeline import site_policy
from synthema.signing import Signer
from synthema.site import Site
from synthema.study import Study
from synthema.synthesis_answer import answer_measurements

PATIENTS = 200
BUDGET = {"epsilon": 10.0, "delta": 1e-6}
FEW_COLUMNS = ("ELN 2022", "AGE", "Overall survival", "STATUS_OS", "NPM1", "FLT3_ITD", "DNMT3A", "TP53")
SCHEMA = aml_schema()


def federation(n_sites: int, patients: int, columns: tuple[str, ...] = ()):
    rng = np.random.default_rng(1)
    sites = simulated_aml_sites(n_sites, rng=rng)
    frames = {site.name: simulated_aml_patients(patients, site=site, rng=rng) for site in sites}
    study = Study(
        name="scale",
        purpose="size and speed of a federation of simulated sites",
        data_schema=SCHEMA,
        budget=BUDGET,
        synthesis={"rows": 1000, "columns": columns},
        sites={name: {} for name in frames},
    )
    return study, frames


def end_to_end(study, frames):
    """Return the answer, what was sent, and the ledgers' entries; the sites' files are opened in here too."""
    signer = Signer()
    document = study.signed(signer)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sites = {}
        for name, frame in frames.items():
            ledger = open_ledger(f"sqlite:///{folder / name}.db", site=name)
            stack.callback(ledger.close)
            policy = site_policy(study, name, researcher=signer.public_key)
            sites[name] = Site(name, frame, SCHEMA, ledger=ledger, policy=policy, secret=secrets.token_bytes(32))
        network = EmbeddedNetwork(study, {name: site.accept(document) for name, site in sites.items()})
        answer = synthesise(network)
        kinds = {tuple(entry.kind for entry in site.ledger.entries())[-3:] for site in sites.values()}
    return answer, network.traffic["marginals"], kinds


def test_all_pairs_of_144_columns_end_to_end(benchmark, capsys):
    full = benchmark.enabled
    study, frames = federation(20 if full else 3, PATIENTS if full else 40, () if full else FEW_COLUMNS)
    answer, traffic, kinds = benchmark.pedantic(end_to_end, args=(study, frames), rounds=3 if full else 1)
    opened = answer_measurements(answer)
    n_columns = 144 if full else len(FEW_COLUMNS)
    assert sum(len(item.columns) == 2 for item in opened) == n_columns * (n_columns - 1) // 2
    assert kinds == {("reserve", "start", "post")}
    sent = traffic.bytes_input / len(frames) / 1e6
    with capsys.disabled():
        between = traffic.bytes_sent / 3 / 1e6
        print(f"\n  sent by each site: {sent:.2f} MB of shares; by each compute party besides: {between:.2f} MB")
    assert sent < 50


def aml_codes(n_rows: int):
    frame = simulated_aml_patients(min(n_rows, 10_000), rng=np.random.default_rng(1))
    codes = np.tile(encode(frame, SCHEMA), (-(-n_rows // len(frame)), 1))[:n_rows]
    return np.asfortranarray(codes), Domain.from_schema(SCHEMA)


@pytest.mark.parametrize("way", ["as chosen", "by product", "in passes", "one at a time"])
@pytest.mark.parametrize("n_rows", [200, 10_000, 200_000])
def test_count_all_pairs_of_144_columns(benchmark, way, n_rows):
    benchmark.group = f"10,296 pairs, {n_rows} rows"
    if not benchmark.enabled and (n_rows > 200 or way == "one at a time"):
        pytest.skip("only where it is timed")
    codes, domain = aml_codes(n_rows)
    cliques = two_way_cliques(domain)

    def passes():
        return count_in_passes(cliques, domain, n_rows=n_rows, count=lambda parts: _count([codes], domain, parts))

    ways = {
        "as chosen": lambda: count_marginals(codes, domain, cliques),
        "by product": lambda: count_by_product([codes], domain, cliques),
        "in passes": passes,
        "one at a time": lambda: [count_marginals(codes, domain, [clique])[0] for clique in cliques],
    }
    counts = benchmark.pedantic(ways[way], rounds=3 if benchmark.enabled else 1)
    assert len(counts) == 10_296


def test_add_the_packages_of_20_sites(benchmark):
    cells = sum(a * b for a, b in itertools.combinations(Domain.from_schema(SCHEMA).n_codes, 2))
    packages = [share(np.zeros(cells, dtype=np.int64), 3)[-1] for _ in range(20)]
    benchmark(pool, packages)


def test_fit_a_tree_of_144_columns(benchmark):
    frame = simulated_aml_patients(4_000 if benchmark.enabled else 300, rng=np.random.default_rng(1))
    schema = SCHEMA.subset(SCHEMA.coded if benchmark.enabled else FEW_COLUMNS)

    def fit():
        oracle = TableOracle.from_codes(encode(frame, schema), schema)
        return ChowLiu(epsilon=10.0, delta=1e-9).fit(None, schema, oracle=oracle)

    model = benchmark.pedantic(fit, rounds=2 if benchmark.enabled else 1)
    assert len(model.sample(50)) == 50
    assert len(one_way_cliques(Domain.from_schema(schema))) == len(schema.modelled)


def counters(site: int, number: int) -> np.ndarray:
    return np.full(1000, site + number)


@pytest.mark.parametrize("way", ["shares to 3 parties", "masks between sites"])
def test_a_hundred_sites_and_a_thousand_sums_of_1000_counters(benchmark, way, capsys):
    benchmark.group = "sums of 1,000 counters of 100 sites"
    n_sites, n_rounds = (100, 1000) if benchmark.enabled else (10, 3)
    if way == "shares to 3 parties":
        run = benchmark.pedantic(simulate_sums, args=(counters,), kwargs={"n_sites": n_sites, "n_rounds": n_rounds})
        with capsys.disabled():
            print(f"\n  {n_rounds} rounds; sent by each site: {run.bytes_by_site[0] / 1e6:.2f} MB")
        expected = [sum(site + number for site in range(n_sites)) for number in range(n_rounds)]
        assert run.sums[:, 0].tolist() == expected
    else:
        # Any site may fail and no party need be trusted with a share of all, but keys are agreed on for each sum: one
        # is timed, not a thousand.
        vectors = [counters(site, 0) for site in range(n_sites)]
        one = benchmark.pedantic(secure_sum_local, args=(vectors,), kwargs={"max_abs": 2000})
        with capsys.disabled():
            print(f"\n  1 sum; sent by each site: {one.cost.bytes_sent[0] / 1e6:.3f} MB")
        assert one.total[0] == sum(range(n_sites))
