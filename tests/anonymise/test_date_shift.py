import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from anonymise import (
    KeyRing,
    NotAnonymisable,
    PseudonymKey,
    cap_ages,
    hide_births_of_oldest,
    patient_shifts,
    possible_shifts,
    shift_dates,
    shifted_bounds,
)
from privacy.errors import SchemaError

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))
DOMAIN = ("aml-2026", "patient")
N_PATIENTS = 24_000
MAX_DAYS = 30
# Chi-squared tests of uniformity on fixed ids under a fixed key: the outcome does not vary from run to run.
P_THRESHOLD = 1e-4


def shifts_of(ids, key=KEY, **options):
    return patient_shifts(ids, key, domain=DOMAIN, **{"max_days": MAX_DAYS, **options})


def uniform_p(shifts, possible):
    counts = np.array([(shifts == shift).sum() for shift in possible])
    assert counts.sum() == shifts.size
    return stats.chisquare(counts).pvalue


@pytest.mark.parametrize("keep_weekdays", [False, True])
def test_shifts_are_uniform_and_never_zero(keep_weekdays):
    shifts = shifts_of([f"MRN-{i}" for i in range(N_PATIENTS)], keep_weekdays=keep_weekdays)
    possible = [day for day in range(-MAX_DAYS, MAX_DAYS + 1) if day and not (keep_weekdays and day % 7)]
    assert possible_shifts(MAX_DAYS, keep_weekdays=keep_weekdays).tolist() == possible
    assert set(shifts) == set(possible)
    assert uniform_p(shifts, possible) > P_THRESHOLD


def test_the_test_of_uniformity_rejects_biased_shifts():
    # Negative controls: zero replaced by its neighbour, and one byte modulo the number of shifts.
    shifts = shifts_of([f"MRN-{i}" for i in range(N_PATIENTS)])
    possible = possible_shifts(MAX_DAYS)
    rng = np.random.default_rng(7)
    replaced = rng.integers(-MAX_DAYS, MAX_DAYS + 1, N_PATIENTS)
    replaced[replaced == 0] = 1
    assert uniform_p(replaced, possible) < P_THRESHOLD
    assert uniform_p(possible[rng.integers(0, 256, N_PATIENTS) % possible.size], possible) < P_THRESHOLD
    assert uniform_p(shifts, possible) > P_THRESHOLD


def test_a_shift_is_the_mac_of_the_patient_and_of_nothing_else():
    import hmac

    subkey = PseudonymKey(KEY).subkey("date shift of 30 days", DOMAIN)
    number = int.from_bytes(hmac.digest(subkey, b"MRN-7", "sha256"), "big") % 60
    expected = [day for day in range(-30, 31) if day][number]
    assert shifts_of(["MRN-7", "MRN-8", " MRN-7 "])[[0, 2]].tolist() == [expected] * 2


def test_shifts_of_other_keys_domains_and_sizes_are_independent():
    ids = [f"MRN-{i}" for i in range(N_PATIENTS)]
    first = shifts_of(ids)
    ring = KeyRing({1: PseudonymKey(KEY)})
    others = [
        shifts_of(ids, OTHER),
        patient_shifts(ids, KEY, domain=("aml-2027", "patient"), max_days=MAX_DAYS),
        patient_shifts(ids, KEY, domain=(*DOMAIN, "vienna"), max_days=MAX_DAYS),
        shifts_of(ids, max_days=2 * MAX_DAYS),
        shifts_of(ids, keep_weekdays=True),
        shifts_of(ids, ring),
    ]
    for other in others:
        assert stats.spearmanr(first, other).pvalue > P_THRESHOLD
    assert stats.spearmanr(first, np.sign(first)).pvalue < P_THRESHOLD  # Negative control.


def visits(days=("2023-02-25", "2024-02-27", "2024-03-05", "2023-12-31")):
    return pd.DataFrame(
        {"mrn": ["A", "B", "A", "B"], "day": list(days), "hb": [9.1, 8.0, 9.9, 7.5]}, index=[5, 3, 9, 1]
    )


def put(frame, values):
    """Put a column in the place of the days, with its type: an array of objects would be read as text again."""
    frame["day"] = values.set_axis(frame.index)
    return frame


def shifted(frame, **options):
    return shift_dates(
        frame, KEY, **{"patient": "mrn", "dates": ["day"], "domain": DOMAIN, "max_days": MAX_DAYS, **options}
    )


KINDS = {
    "datetime64[ns]": lambda days: pd.Series(pd.to_datetime(days).astype("datetime64[ns]")),
    "datetime64[s]": lambda days: pd.Series(pd.to_datetime(days).astype("datetime64[s]")),
    "text": lambda days: pd.Series(days, dtype="str"),
    "object text": lambda days: pd.Series(days, dtype=object),
    "text with times": lambda days: pd.Series([f"{day}T23:59:01" for day in days], dtype="str"),
    "dates": lambda days: pd.Series([dt.date.fromisoformat(day) for day in days], dtype=object),
    "times": lambda days: pd.Series([dt.datetime.fromisoformat(day + "T06:30") for day in days], dtype=object),
    "category": lambda days: pd.Series(days, dtype="category"),
}


def as_times(values):
    return pd.Series([pd.Timestamp(value) for value in values])


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_of_date_keeps_type_and_intervals(kind):
    frame = visits()
    put(frame, KINDS[kind](frame["day"].tolist()))
    before = frame.copy()
    moved = shifted(frame)
    pd.testing.assert_frame_equal(frame, before)
    assert moved.index.equals(frame.index)
    assert moved["hb"].equals(frame["hb"])
    assert moved["day"].dtype == (object if kind == "category" else frame["day"].dtype)
    assert list(map(type, moved["day"])) == list(map(type, frame["day"]))
    days = (as_times(moved["day"]) - as_times(frame["day"])).dt.total_seconds() / 86_400
    assert days.tolist() == shifts_of(frame["mrn"]).tolist()


def test_missing_dates_stay_as_they_were_missing():
    frame = visits()
    put(frame, pd.Series(["2023-02-25", None, "", "2023-12-31"], dtype=object))
    assert shifted(frame)["day"].tolist()[1:3] == [None, ""]
    put(frame, pd.to_datetime(pd.Series(["2023-02-25", None, "2020-02-29", None])))
    assert shifted(frame)["day"].isna().tolist() == [False, True, False, True]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1))), min_size=1, max_size=20),
    st.integers(7, 400),
    st.booleans(),
)
def test_all_intervals_of_a_patient_are_kept_across_tables_and_order(rows, max_days, keep_weekdays):
    frame = pd.DataFrame({"mrn": [row[0] for row in rows], "day": [row[1].isoformat() for row in rows]})
    other = pd.DataFrame({"born": ["1950-06-01"] * 4, "mrn": ["0", "1", "2", "3"]})
    options = {"max_days": max_days, "keep_weekdays": keep_weekdays}
    moved = pd.to_datetime(shifted(frame, **options)["day"])
    births = pd.to_datetime(shifted(other, dates=["born"], **options)["born"])
    for (patient, day), new in zip(rows, moved, strict=True):
        interval = pd.Timestamp(day) - pd.Timestamp("1950-06-01")
        assert new - births[patient] == interval
        assert 0 < abs((new - pd.Timestamp(day)).days) <= max_days
        if keep_weekdays:
            assert new.weekday() == day.weekday()


def test_a_known_date_reveals_the_shift_as_the_documentation_says():
    frame = visits()
    moved = shifted(frame)
    known = (pd.Timestamp(moved["day"].iloc[0]) - pd.Timestamp("2023-02-25")).days
    assert pd.Timestamp(moved["day"].iloc[2]) - pd.Timedelta(days=known) == pd.Timestamp("2024-03-05")


def test_dates_out_of_the_bounds_are_refused_or_become_missing():
    frame = visits()
    by = shifts_of(frame["mrn"])
    true = pd.to_datetime(frame["day"]).to_numpy().astype("datetime64[D]") + by.astype("timedelta64[D]")
    edge = str(np.sort(true)[1])
    bounds = ("2000-01-01", edge)
    expected = (true > np.datetime64(edge)).tolist()
    assert any(expected)
    assert not all(expected)
    with pytest.raises(NotAnonymisable, match="column 'day': a date would be moved out of the bounds"):
        shifted(frame, bounds=bounds)
    for kind in KINDS.values():
        put(frame, kind(visits()["day"].tolist()))
        moved = shifted(frame, bounds=bounds, outside="missing")
        assert moved["day"].isna().tolist() == expected
        kept = [str(pd.Timestamp(day).date()) for day in moved["day"].dropna()]
        assert kept == [str(day) for day, lost in zip(true, expected, strict=True) if not lost]
    wide = shifted_bounds(("2023-02-25", "2024-03-05"), max_days=MAX_DAYS)
    assert not shifted(visits(), bounds=wide)["day"].isna().any()


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ("2023-02-30", "no day of the calendar"),
        ("20230225", "no day of the calendar"),
        ("25.02.2023", "no day of the calendar"),
        ("2023-02-25T10:00Z", "no day of the calendar"),
        (2023, "no date"),
        (dt.datetime(2023, 2, 25, tzinfo=dt.UTC), "time zone"),
    ],
)
def test_what_is_no_date_is_refused_without_being_named(bad, rule):
    frame = visits()
    put(frame, pd.Series(["2023-02-25", bad, "2023-02-25", "2023-02-25"], dtype=object))
    with pytest.raises(SchemaError, match=f"column 'day': .*{rule}") as caught:
        shifted(frame)
    assert str(bad) not in str(caught.value)
    assert caught.value.__context__ is None


def test_bad_arguments_and_tables_are_refused():
    zoned = visits()
    zoned["day"] = pd.to_datetime(zoned["day"]).dt.tz_localize("Europe/Vienna")
    with pytest.raises(SchemaError, match="time zone"):
        shifted(zoned)
    with pytest.raises(SchemaError, match="column 'none': must appear exactly once"):
        shifted(visits(), dates=["none"])
    for wrong in ({"dates": []}, {"dates": "day"}, {"dates": ["day", "day"]}, {"outside": "clamp"}):
        with pytest.raises(ValueError, match="must"):
            shifted(visits(), **wrong)
    for wrong in ({"max_days": 0}, {"max_days": True}, {"max_days": 6, "keep_weekdays": True}, {"max_days": 10**6}):
        with pytest.raises(ValueError, match="max_days"):
            shifted(visits(), **wrong)
    for bounds in (("2020-01-01", "2019-01-01"), ("2020", "2021"), ("2020-01-01",)):
        with pytest.raises(ValueError, match="bounds must be"):
            shifted(visits(), bounds=bounds)
    frame = visits()
    frame.loc[3, "mrn"] = None
    with pytest.raises(ValueError, match="column 'mrn': an id is missing"):
        shifted(frame)


def test_ages_above_89_become_one_class():
    ages = pd.Series([0.0, 89.0, 89.99, 90.0, 104.0, np.nan])
    assert cap_ages(ages).tolist()[:-1] == [0.0, 89.0, 89.99, 90.0, 90.0]
    assert cap_ages(pd.Series([70, 81], dtype="Int64"), highest=79).tolist() == [70, 80]
    with pytest.raises(SchemaError, match="numbers"):
        cap_ages(pd.Series(["90"]))
    with pytest.raises(ValueError, match="highest"):
        cap_ages(ages, highest=0)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.dates(dt.date(1920, 1, 1), dt.date(1940, 1, 1)),
            st.none() | st.dates(dt.date(2009, 1, 1), dt.date(2030, 1, 1)),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_births_are_hidden_of_exactly_those_who_are_older_than_89_at_a_date(rows):
    frame = pd.DataFrame(rows, columns=["mrn", "birth", "visit"])
    found = hide_births_of_oldest(frame, patient="mrn", birth="birth", dates=["visit"])

    def age(born, day):
        return day.year - born.year - ((day.month, day.day) < (born.month, born.day))

    first = {mrn: min(row[1] for row in rows if row[0] == mrn) for mrn, _, _ in rows}
    old = {mrn for mrn, _, day in rows if day is not None and age(first[mrn], day) > 89}
    assert found["birth"].isna().tolist() == [mrn in old for mrn, _, _ in rows]
    assert list(found["birth"].dropna()) == [row[1] for row in rows if row[0] not in old]


def test_hiding_births_asks_for_the_right_columns():
    frame = pd.DataFrame({"mrn": [1], "birth": ["1930-01-01"], "visit": ["2020-01-01"]})
    with pytest.raises(SchemaError, match="column 'none'"):
        hide_births_of_oldest(frame, patient="mrn", birth="none", dates=["visit"])
    with pytest.raises(ValueError, match="dates"):
        hide_births_of_oldest(frame, patient="mrn", birth="birth", dates=[])
