"""Pseudonyms and shifted dates of 500,000 distinct ids, and of 2,000,000 rows that repeat 100,000 ids.

Run: pytest benchmarks/test_bench_pseudonyms.py --benchmark-enable
"""

import numpy as np
import pandas as pd
import pytest

from anonymise import PseudonymKey, decrypt_ids, encrypt_ids, patient_shifts, pseudonymise, shift_dates

KEY = PseudonymKey(bytes(range(32)))
DOMAIN = ("aml-2026", "patient")
N_IDS = 500_000


@pytest.fixture(scope="module")
def ids():
    return pd.Series([f"MRN-{i:08d}" for i in range(N_IDS)])


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(1)
    days = pd.Timestamp("2010-01-01") + pd.to_timedelta(rng.integers(0, 5000, 2_000_000), unit="D")
    return pd.DataFrame({"mrn": np.char.add("MRN-", rng.integers(0, 100_000, 2_000_000).astype(str)), "visit": days})


@pytest.mark.parametrize("make", [pseudonymise, encrypt_ids])
def test_distinct_ids(benchmark, ids, make):
    assert benchmark(make, ids, KEY, domain=DOMAIN).size == N_IDS


def test_reading_tokens(benchmark, ids):
    tokens = pd.Series(encrypt_ids(ids, KEY, domain=DOMAIN))
    assert benchmark(decrypt_ids, tokens, KEY, domain=DOMAIN)[-1] == ids.iloc[-1]


def test_shifts(benchmark, ids):
    assert benchmark(patient_shifts, ids, KEY, domain=DOMAIN, max_days=180).size == N_IDS


def test_repeated_ids(benchmark, rows):
    assert benchmark(pseudonymise, rows["mrn"], KEY, domain=DOMAIN).size == len(rows)


def test_dates_of_repeated_ids(benchmark, rows):
    moved = benchmark(shift_dates, rows, KEY, patient="mrn", dates=["visit"], domain=DOMAIN, max_days=180)
    assert (moved["visit"] != rows["visit"]).all()
