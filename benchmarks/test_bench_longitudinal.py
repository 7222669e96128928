"""The optimal search on 10,000 simulated patients, 10 visits each, 6 quasi-identifiers (2,160 combinations), k = 5.

Age, sex and region belong to the patient; month, ward and reason to the visit (one about every three months).
Encoding, recoding, shuffling and the final check are included.
Run: pytest benchmarks/test_bench_longitudinal.py --benchmark-enable
"""

import numpy as np
import pandas as pd
import pytest

from anonymise import KAnonymity, Schema, anonymise, first_visits

N_PATIENTS, N_VISITS = 10_000, 10


def simulated(n_visits, rng):
    of = np.repeat(np.arange(N_PATIENTS), n_visits)
    n = of.size
    number = np.arange(n) - np.repeat(np.cumsum(n_visits) - n_visits, n_visits)
    month = np.minimum(rng.integers(0, 40, N_PATIENTS)[of] + 3 * number + rng.integers(0, 2, n), 95)
    return pd.DataFrame(
        {
            "mrn": of,
            "age": rng.integers(18, 90, N_PATIENTS)[of],
            "sex": np.array(["F", "M"])[rng.integers(0, 2, N_PATIENTS)][of],
            "region": np.array([f"R{i}" for i in range(9)])[rng.integers(0, 9, N_PATIENTS)][of],
            "month": month,
            "ward": np.array(list("ABCDEF"))[np.minimum(rng.geometric(0.6, n) - 1, 5)],
            "reason": np.array(list("abcdefgh"))[np.minimum(rng.geometric(0.5, n) - 1, 7)],
        }
    )


@pytest.fixture(scope="module")
def visits():
    return simulated(np.full(N_PATIENTS, N_VISITS), np.random.default_rng(1))


@pytest.fixture(scope="module")
def irregular():
    rng = np.random.default_rng(2)
    return simulated(1 + rng.poisson(N_VISITS - 1, N_PATIENTS), rng)


@pytest.fixture(scope="module")
def schema():
    known = {"role": "quasi-identifier"}
    regions = [[f"R{i}", f"G{i // 3}", "*"] for i in range(9)]
    wards = [[ward, "in" if ward in "AB" else "out", "*"] for ward in "ABCDEF"]
    reasons = [list(row) for row in zip("abcdefgh", "11223344", "xxxxyyyy", "*" * 8, strict=True)]
    columns = {
        "mrn": {"role": "identifier"},
        "age": {**known, "kind": "integer", "bounds": [18, 89], "hierarchy": {"interval": [6, 12, 36]}},
        "sex": {**known, "categories": ["F", "M"]},
        "region": {**known, "categories": [row[0] for row in regions], "hierarchy": {"rows": regions}},
        "month": {**known, "kind": "integer", "bounds": [0, 95], "hierarchy": {"interval": [3, 12, 24, 48]}},
        "ward": {**known, "categories": list("ABCDEF"), "hierarchy": {"rows": wards}},
        "reason": {**known, "categories": list("abcdefgh"), "hierarchy": {"rows": reasons}},
    }
    return Schema.from_dict({"table": {"name": "visits", "patient_id": "mrn"}, "columns": columns})


@pytest.mark.parametrize("suppression_limit", [0.0, 0.02, 1.0])
def test_patients_with_ten_visits(benchmark, visits, schema, suppression_limit):
    result = benchmark(
        anonymise, visits, schema, models=[KAnonymity(5)], static=["age", "sex"], suppression_limit=suppression_limit
    )
    assert result.optimal


@pytest.mark.parametrize("at_most", [None, 10, 5, 3])
def test_patients_with_ten_visits_on_average(benchmark, irregular, schema, at_most):
    if at_most is not None:
        day = pd.Timestamp("2000-01-01") + pd.to_timedelta(30 * irregular["month"], unit="D")
        irregular = first_visits(irregular.assign(day=day), at_most, patient="mrn", by="day").drop(columns="day")
    result = benchmark(anonymise, irregular, schema, models=[KAnonymity(5)], suppression_limit=0.02)
    benchmark.extra_info |= {"loss": result.score, "suppressed": result.suppressed, "rows": len(irregular)}
    print(at_most, dict(result.node), benchmark.extra_info)
    assert result.optimal
