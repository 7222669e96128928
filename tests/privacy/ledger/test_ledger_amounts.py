"""Amounts are integers on the safe side: costs up, caps down, nothing lost, nothing that is no number let in."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy import ZeroConcentratedDP, rho_of
from privacy._units import FAILURE, LOSS, decimal, float_up, round_down, round_up
from privacy.ledger.amounts import amounts_of, largest_rho, text_of_units, texts_of, units_of_text

amounts = st.floats(min_value=0, allow_infinity=False, allow_nan=False)
units = st.integers(0, 10**40)


@given(amounts)
def test_costs_round_up_and_caps_round_down_by_less_than_a_unit(value):
    exact = decimal(value) * LOSS
    assert exact <= round_up(value, LOSS) < exact + 1
    assert exact - 1 < round_down(value, LOSS) <= exact


@given(st.floats(min_value=5e-324, max_value=9.9e-19, allow_subnormal=True))
def test_a_cost_too_small_for_the_scale_is_a_unit_and_never_nothing(value):
    assert round_up(value, LOSS) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, -5e-324])
def test_what_is_no_amount_is_refused(value):
    for convert in (round_up, round_down):
        with pytest.raises(ValueError, match="finite number >= 0"):
            convert(value, LOSS)


@given(units)
def test_texts_read_back_as_the_same_amount(amount):
    assert units_of_text(text_of_units(amount)) == amount
    assert Fraction(text_of_units(amount)) * LOSS == amount


@pytest.mark.parametrize(
    "text",
    ["1", "1.0", "01.000000000000000000", "-1.000000000000000000", "1.0000000000000000000", "1e5", "", "nan", None, 1,
     " 1.000000000000000000", "1.00000000000000000٠", "1.000000000000000000\n"],
)  # fmt: skip
def test_any_other_text_is_refused(text):
    with pytest.raises(ValueError, match="18 digits"):
        units_of_text(text)


@given(units)
def test_a_double_of_what_was_spent_is_never_below_it(amount):
    assert Fraction(float_up(amount, LOSS)) * LOSS >= amount


@given(st.integers(1, 10**30))
def test_what_is_reported_as_left_fits_when_it_is_asked_for_and_wastes_next_to_nothing(left):
    rho = largest_rho(left)
    assert 0 < round_up(rho_of(ZeroConcentratedDP(rho)), LOSS) <= left
    assert rho * LOSS > left * (1 - 1e-11) - 1


@pytest.mark.parametrize("left", [0, -1, -(10**20)])
def test_nothing_is_left_of_nothing(left):
    assert largest_rho(left) == 0.0


@given(units, units)
def test_amounts_of_several_kinds_read_back(loss, failure):
    assert amounts_of(texts_of((loss, failure), (LOSS, FAILURE)), (LOSS, FAILURE)) == (loss, failure)


@pytest.mark.parametrize("texts", [None, [], ["0." + "0" * 18], ["0." + "0" * 18, "0." + "0" * 18], "ab"])
def test_another_number_of_amounts_or_of_digits_is_refused(texts):
    with pytest.raises(ValueError, match="amount"):
        amounts_of(texts, (LOSS, FAILURE))
