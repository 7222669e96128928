"""Figures of anonymeter 1.1.0 on rows of UCI Adult, for tests/generators/test_attacks_against_anonymeter.py.

Run by hand, in an environment with anonymeter 1.1.0 (which needs numpy 1.26), from the project's root:
    python tests/vectors/make_anonymeter.py > tests/vectors/anonymeter_adult.json
The tables are cuts of the distinct rows in the file's order. All rows are attacked, so that linkability and inference
depend on chance only through ties.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

N_ROWS = 2000
N_ATTACKS = 1000
SEEDS = range(3)


def counts(evaluator) -> dict[str, int]:
    found = evaluator.results()
    return {"made": N_ROWS, "success": int(found.n_success), "control": int(found.n_control)}


def singled_out(tables, mode: str, n_attacks: int, seed: int) -> dict[str, int]:
    # Imported where they are used: the test runner reads this file, and the peer is in an environment of its own.
    from anonymeter.evaluators import SinglingOutEvaluator
    from anonymeter.evaluators.singling_out_evaluator import univariate_singling_out_queries

    train, synthetic, control = tables
    evaluator = SinglingOutEvaluator(train, synthetic, n_attacks=n_attacks, n_cols=3, control=control, seed=seed)
    evaluator.evaluate(mode)
    if mode == "univariate":
        n_attacks = len(univariate_singling_out_queries(evaluator._syn, n_attacks, np.random.default_rng(0)))
    return {
        "made": n_attacks,
        "success": int(evaluator._n_success),
        "control": int(evaluator._n_control),
        "baseline": int(evaluator._n_baseline),
    }


def main() -> None:
    from anonymeter.evaluators import InferenceEvaluator, LinkabilityEvaluator

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    path = Path("tests/anonymise/data/adult.csv.gz")
    frame = pd.read_csv(path, sep=None, engine="python").drop_duplicates()
    train, control, fresh = (frame.iloc[i * N_ROWS : (i + 1) * N_ROWS].reset_index(drop=True) for i in range(3))
    columns = list(frame.columns)
    out = {
        "source": "anonymeter 1.1.0 (numpy 1.26.4), by tests/vectors/make_anonymeter.py",
        "comment": "2,000 real rows, as many control rows, and a synthetic table whose first rows are real ones (leak) "
        "and whose others are fresh. Counts of successes among attacks made.",
        "columns": columns,
        "n_rows": N_ROWS,
        "tests": [],
    }
    for leak in (1.0, 0.5, 0.0):
        n = int(N_ROWS * leak)
        tables = (train, pd.concat([train[:n], fresh[n:]]).reset_index(drop=True), control)
        test = {"comment": f"leak {leak:.0%}", "leak": leak, "flags": [], "result": "valid"}
        test["univariate"] = singled_out(tables, "univariate", 10**6, 1)
        test["univariate"].pop("baseline")  # of a million random predicates: no figure of the attacks made
        test["multivariate"] = [singled_out(tables, "multivariate", N_ATTACKS, seed) for seed in SEEDS]
        for k in (1, 5):
            evaluator = LinkabilityEvaluator(
                *tables[:2], aux_cols=(columns[::2], columns[1::2]), n_attacks=N_ROWS, n_neighbors=k, control=control
            )
            test[f"linkability_{k}"] = counts(evaluator.evaluate(n_jobs=1))
        test["inference"] = {}
        for secret in columns:
            evaluator = InferenceEvaluator(
                *tables[:2],
                aux_cols=[column for column in columns if column != secret],
                secret=secret,
                regression=secret == "age",
                n_attacks=N_ROWS,
                control=control,
            )
            test["inference"][secret] = counts(evaluator.evaluate(n_jobs=1))
        out["tests"].append(test)
    sys.stdout.write(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
