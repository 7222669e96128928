"""What pyCANON 1.3.6 measures on rows of UCI Adult, for tests/anonymise/test_models_against_pycanon.py.

Run by hand, in an environment with pyCANON, from the project's root:
    python tests/vectors/make_pycanon_models.py > tests/vectors/pycanon_models.json
Left out: recursive (c,l)-diversity, where it sorts counts upwards and takes the smallest for the largest, and enhanced
beta-likeness, where it compares the largest gain of all values with the limit of each.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import pandas as pd

N_ROWS = 2000
CASES = [
    (["sex", "race"], "occupation"),
    (["sex", "salary-class"], "occupation"),
    (["marital-status"], "education"),
    (["workclass", "sex"], "race"),
    (["sex", "race"], "age"),
    (["salary-class", "workclass"], "age"),
]


def main() -> None:
    # Imported where it is used: the test runner reads this file, and the peer is in an environment of its own.
    from pycanon import anonymity

    frame = pd.read_csv(Path("tests") / "anonymise" / "data" / "adult.csv.gz", sep=";").iloc[:N_ROWS]
    results = []
    for quasi, sensitive in CASES:
        alpha, k = anonymity.alpha_k_anonymity(frame, quasi, [sensitive])
        results.append(
            {
                "quasi_identifiers": quasi,
                "sensitive": sensitive,
                "k": int(k),
                "alpha": float(alpha),
                "distinct_l": int(anonymity.l_diversity(frame, quasi, [sensitive])),
                "entropy_l_rounded_down": int(anonymity.entropy_l_diversity(frame, quasi, [sensitive])),
                "t": float(anonymity.t_closeness(frame, quasi, [sensitive])),
                "t_distance": "ordered" if sensitive == "age" else "equal",
                "basic_beta": float(anonymity.basic_beta_likeness(frame, quasi, [sensitive])),
                "delta_in_nats": float(anonymity.delta_disclosure(frame, quasi, [sensitive])),
            }
        )
    vectors = {
        "source": f"pyCANON {version('pycanon')}, by tests/vectors/make_pycanon_models.py",
        "comment": f"The first {N_ROWS} rows of tests/anonymise/data/adult.csv.gz; limits that all classes satisfy.",
        "results": results,
    }
    json.dump(vectors, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
