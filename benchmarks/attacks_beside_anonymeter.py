"""Processor time, and success rates, of our attacks and of anonymeter's on the same rows of UCI Adult.

    python benchmarks/attacks_beside_anonymeter.py PEER_PYTHON      both run now, times
    python benchmarks/attacks_beside_anonymeter.py figures          ours run now, beside anonymeter's recorded rates

PEER_PYTHON is the interpreter of an environment with anonymeter 1.1.0: it needs numpy 1.26 and ours needs numpy 2.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

N_ROWS = 5000
N_ATTACKS = 500
SECRET = "occupation"
DATA = Path(__file__).parents[1] / "tests" / "anonymise" / "data"


def tables() -> list[pd.DataFrame]:
    frame = pd.read_csv(DATA / "adult.csv.gz", sep=";").drop_duplicates()
    return [frame[i * N_ROWS : (i + 1) * N_ROWS].reset_index(drop=True) for i in range(3)]


def timed(attacks: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return processor seconds of each attack, the second time it is run (the peer compiles during the first)."""
    out = {}
    for name, attack in attacks.items():
        attack()
        start = time.process_time()
        attack()
        out[name] = time.process_time() - start
    return out


def figures() -> None:
    """Print our rates and the recorded ones: attack, then success and control success of each."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from generators.attacks.inference import inference
    from generators.attacks.linkability import linkability
    from generators.attacks.singling_out import singling_out
    from generators.attacks.table import Rows
    from privacy import Schema

    recorded = json.loads((DATA.parents[1] / "vectors" / "anonymeter_adult.json").read_text())
    n = recorded["n_rows"]
    frame = pd.read_csv(DATA / "adult.csv.gz", sep=";").drop_duplicates()
    adult = Rows.of(frame, Schema.load(DATA / "adult.toml"))
    real, control, fresh = (adult.take(np.arange(i * n, (i + 1) * n)) for i in range(3))
    halves = (recorded["columns"][::2], recorded["columns"][1::2])
    for case in recorded["tests"]:
        cut = int(n * case["leak"])
        of = (real, real.take(np.arange(cut)).joined(fresh.take(np.arange(cut, n))), control)
        rng = np.random.default_rng(1)
        several = case["multivariate"]
        theirs = {
            "univariate": case["univariate"],
            "multivariate": {key: sum(run[key] for run in several) for key in several[0]},
            **{f"linkability_{k}": case[f"linkability_{k}"] for k in (1, 5)},
            **case["inference"],
        }
        found = {
            "univariate": singling_out(*of, mode="univariate", n_attacks=10**6, rng=rng),
            "multivariate": singling_out(*of, n_attacks=3000, rng=rng),
            **{f"linkability_{k}": linkability(*of, halves=halves, n_neighbours=k, rng=rng) for k in (1, 5)},
            **{result.secret: result for result in inference(*of, rng=rng)},
        }
        for name, result in found.items():
            peer = theirs[name]
            rates = (
                result.success.value,
                result.control.value,
                peer["success"] / peer["made"],
                peer["control"] / peer["made"],
            )
            both = f"ours {rates[0]:.3f} {rates[1]:.3f}   anonymeter {rates[2]:.3f} {rates[3]:.3f}"
            line = f"{case['comment']:10} {name:16} {both}"
            sys.stdout.write(
                f"{line}   risk {result.risk.value:+.3f} ({result.risk.low:+.3f} to {result.risk.high:+.3f})\n"
            )


def ours() -> dict[str, float]:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from generators.attacks.inference import inference
    from generators.attacks.linkability import linkability
    from generators.attacks.singling_out import singling_out
    from generators.attacks.table import Rows
    from privacy import Schema

    schema = Schema.load(DATA / "adult.toml")
    real, synthetic, control = (Rows.of(frame, schema) for frame in tables())
    rng = np.random.default_rng(1)
    of = (real, synthetic, control)
    return timed(
        {
            "singling out": lambda: singling_out(*of, n_attacks=N_ATTACKS, rng=rng),
            "linkability": lambda: linkability(*of, n_attacks=N_ATTACKS, rng=rng),
            "inference": lambda: inference(*of, secrets=[SECRET], n_attacks=N_ATTACKS, rng=rng),
        }
    )


def peers() -> dict[str, float]:
    import logging
    import warnings

    from anonymeter.evaluators import InferenceEvaluator, LinkabilityEvaluator, SinglingOutEvaluator

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    real, synthetic, control = tables()
    columns = list(real.columns)
    options = {"n_attacks": N_ATTACKS, "control": control}
    halves = (columns[::2], columns[1::2])
    others = [column for column in columns if column != SECRET]
    return timed(
        {
            "singling out": lambda: SinglingOutEvaluator(real, synthetic, **options).evaluate("multivariate"),
            "linkability": lambda: LinkabilityEvaluator(real, synthetic, halves, **options).evaluate(n_jobs=1),
            "inference": lambda: InferenceEvaluator(real, synthetic, others, SECRET, **options).evaluate(n_jobs=1),
        }
    )


def main() -> None:
    if sys.argv[1:] == ["--peer"]:
        sys.stdout.write(json.dumps(peers()))
        return
    if sys.argv[1:] == ["figures"]:
        figures()
        return
    command = [sys.argv[1], __file__, "--peer"]
    theirs = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    sys.stdout.write(f"{N_ROWS} rows in each of three tables, {N_ATTACKS} attacks; processor seconds\n")
    for name, seconds in ours().items():
        line = f"{name:14} ours {seconds:7.3f}   anonymeter {theirs[name]:7.3f}   ratio {theirs[name] / seconds:6.1f}\n"
        sys.stdout.write(line)


if __name__ == "__main__":
    main()
