"""How near the population models come where the population is known: Adult is the population, samples are drawn.

Run: python benchmarks/population_estimators.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, get_args

import numpy as np
import pandas as pd

from anonymise import population_uniqueness
from anonymise.population import Estimator

ADULT: Final = Path(__file__).parents[1] / "tests" / "anonymise" / "data" / "adult.csv.gz"
FOUR: Final = ["sex", "age", "race", "education"]
NINE: Final = [*FOUR, "marital-status", "native-country", "workclass", "occupation", "salary-class"]
COLUMNS: Final = {"nine": NINE, "five": [*FOUR, "workclass"], "four": FOUR}
SEED, N_SAMPLES = 11, 20


def main() -> None:
    """Print the true share of uniques, the sample's, and each model's mean estimate with how many converged."""
    adult = pd.read_csv(ADULT, sep=";")
    rng = np.random.default_rng(SEED)
    estimators = get_args(Estimator)
    print(f"{'columns':<10}{'fraction':>9}{'true':>8}{'sample':>8}" + "".join(f"{name:>14}" for name in estimators))
    for label, names in COLUMNS.items():
        classes = adult.groupby(names).ngroup().to_numpy()
        true = (np.bincount(classes) == 1).sum() / len(adult)
        for fraction in (0.02, 0.05, 0.1, 0.2, 0.5):
            n = int(fraction * len(adult))
            found: dict[str, list[float]] = {name: [] for name in ("sample", *estimators)}
            for _ in range(N_SAMPLES):
                sizes = np.bincount(rng.choice(classes, n, replace=False))
                sizes = sizes[sizes > 0]
                found["sample"].append(float((sizes == 1).sum()) / n)
                for name in estimators:
                    value = population_uniqueness(sizes, population_size=len(adult), estimator=name).value
                    found[name].append(np.nan if value is None else value)
            line = "".join(
                f"{np.nanmean(found[name]):>9.4f} ({np.isfinite(found[name]).sum():>2})" for name in estimators
            )
            print(f"{label:<10}{fraction:>9}{true:>8.4f}{np.mean(found['sample']):>8.4f}{line}")


if __name__ == "__main__":
    main()
