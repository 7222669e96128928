"""How often 95 % intervals from several synthetic tables cover the truth: the figures of docs/generators/model.md.

    python benchmarks/interval_coverage.py --epsilon 1 --patients 1000 --trials 400

The patients, the analyses and the rules that are compared are those of tests/generators/test_copies.py.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import time
from pathlib import Path

_TESTS = Path(__file__).parent.parent / "tests" / "generators" / "test_copies.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epsilon", type=float, required=True)
    parser.add_argument("--patients", type=int, required=True)
    parser.add_argument("--rows", type=float, default=1.0, help="rows of each table, in multiples of the patients")
    parser.add_argument("--copies", type=int, default=20)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--structure", choices=["tree", "triple"], default="tree")
    parser.add_argument("--seed", type=int, default=7)
    wanted = parser.parse_args()
    spec = importlib.util.spec_from_file_location("test_copies", _TESTS)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{_TESTS} is not there")
    tests = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tests)
    start = time.process_time()
    counted = tests.coverage(
        epsilon=wanted.epsilon,
        n=wanted.patients,
        rows=wanted.rows,
        n_copies=wanted.copies,
        n_trials=wanted.trials,
        seed=wanted.seed,
        mechanism={"tree": tests.KnownTree, "triple": tests.KnownTriple}[wanted.structure],
    )
    error = math.sqrt(0.95 * 0.05 / wanted.trials)
    lines = [
        f"{vars(wanted)}; Monte Carlo error of 0.95: {error:.3f}; {time.process_time() - start:.0f} s of one core",
        " ".join([f"{'':10s}", *(f"{name:>9s}" for name in tests.ANALYSES)]),
    ]
    for rule, covered in counted.items():
        lines.append(" ".join([f"{rule:10s}", *(f"{share:9.3f}" for share in covered / wanted.trials)]))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
