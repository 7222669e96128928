"""Real leukaemia patients, before and after they are anonymised: one page for people, JSON for scripts.

Run with `python examples/risk_report.py [FOLDER]`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from anonymise import KAnonymity, ReleaseContext, anonymise, find_quasi_identifiers, report_risk
from synthema.demo import demo_frames, demo_study


def main(folder: Path) -> None:
    """Write `risk.html` and `risk.json`, and print what matters."""
    schema = demo_study().data_schema
    patients = pd.concat(demo_frames().values(), ignore_index=True)
    print(find_quasi_identifiers(patients, schema))
    result = anonymise(patients, schema, models=[KAnonymity(11)], suppression_limit=0.05)
    report = report_risk(
        patients,
        schema,
        released=result,
        models=[KAnonymity(11)],
        # About so many people fell ill with it in these districts in these years: an assumption, for this example.
        population_size=15_000,
        context=ReleaseContext(recipient="a university", purpose="survival by age", access="on request"),
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "risk.html").write_text(report.to_html(), encoding="utf-8")
    (folder / "risk.json").write_text(report.to_json(), encoding="utf-8")
    print(f"alone before  {report.before.sample_uniqueness:.1%}")
    print(f"alone after   {report.after.sample_uniqueness:.1%}" if report.after else "")
    print("levels       ", dict(result.node))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "risk"))
