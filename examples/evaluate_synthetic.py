"""A synthetic table of real leukaemia patients, and what it is worth: one page for people, JSON for scripts.

Run with `python examples/evaluate_synthetic.py [FOLDER]`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from generators import PrivBayes, evaluate
from synthema.demo import demo_frames, demo_study


def main(folder: Path) -> None:
    """Write `evaluation.html` and `evaluation.json`, and print the verdicts."""
    schema = demo_study().data_schema
    patients = pd.concat(demo_frames().values()).sample(frac=1, random_state=1)
    # Patients whom the generator never sees: the best ruler, and the control group of the attacks.
    used, others = patients[:750], patients[750:]
    model = PrivBayes(epsilon=5.0, delta=1e-6).fit(used, schema)
    report = evaluate(used, model.sample(750), schema=schema, holdout=others)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.html").write_text(report.to_html(), encoding="utf-8")
    (folder / "evaluation.json").write_text(report.to_json(), encoding="utf-8")
    for section, verdict in report.verdicts.items():
        print(f"{section:<10} {verdict}")
    gap = report.figures["km_divergence"]
    print(f"survival curves: {gap.value:.3f} apart; chance alone {gap.floor[1]:.3f}, other patients {gap.holdout:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "evaluation"))
