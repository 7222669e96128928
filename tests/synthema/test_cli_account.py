"""`synthema account`: the grammar, prices against closed forms, the page, refusals; in a process where that matters."""

import json
import math
import re
import subprocess
import sys

import pytest
from scipy import stats
from typer.testing import CliRunner

from privacy.events import (
    DiscreteGaussian,
    DistributedSkellam,
    Gaussian,
    PoissonSampled,
    PureDP,
    SampledWithoutReplacement,
)
from synthema.cli.account_prices import Quote, accountants, best_of, curve, quotes
from synthema.cli.app import app
from synthema.cli.event_grammar import EventTextError, kinds_text, parse_events, parse_template
from synthema.errors import StudyError
from synthema.report.account import account_page, steps_chart

SAMPLED = "poisson:rate=0.01,gaussian:noise_multiplier=1.0"
TIGHT = 1.828236666516577  # of a thousand of these at delta 1e-5
ALL = {"zcdp", "rdp", "numerical"}


def run(*words):
    return CliRunner().invoke(app, ["account", *map(str, words)])


def run_json(*words):
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"not JSON: {name}"))


# ---------------------------------------------------------------- the grammar


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["gaussian:noise_multiplier=2"], ((Gaussian(2.0), 1),)),
        (["gaussian:noise_multiplier=2 x1_000"], ((Gaussian(2.0), 1000),)),
        (["gaussian:noise_multiplier=2", "x3", "pure:epsilon=0.1"], ((Gaussian(2.0), 3), (PureDP(0.1), 1))),
        ([f"{SAMPLED} x5"], ((PoissonSampled(Gaussian(1.0), 0.01), 5),)),
        (
            ["without_replacement:size=5,population=20,gaussian:noise_multiplier=2"],
            ((SampledWithoutReplacement(Gaussian(2.0), 5, 20), 1),),
        ),
        (
            ["discrete_gaussian:scale=10,l2_sensitivity_squared=21"],
            ((DiscreteGaussian(scale=10.0, l2_sensitivity_squared=21), 1),),
        ),
        (
            [
                "skellam:per_party_variance=9.5,n_honest=2,dimension=3,l1_sensitivity=1,l2_sensitivity_squared=1",
            ],
            ((DistributedSkellam(9.5, 2, 3, 1, 1), 1),),
        ),
    ],
)
def test_events_are_read_as_written(words, expected):
    assert parse_events(words) == expected


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "no event"),
        ("x5", "after the release"),
        ("gaussian:noise_multiplier=1 x5 x5", "after the release"),
        ("gaussian:noise_multiplier=1 x0", "at least 1"),
        ("gauss:noise_multiplier=1", "unknown kind"),
        ("noise_multiplier=1", "none of the kinds"),
        ("gaussian:noise_multiplier", "name=number"),
        ("gaussian:noise_multiplier=1,noise_multiplier=2", "twice"),
        ("gaussian:sigma=1", "no parameter 'sigma'"),
        ("gaussian:noise_multiplier=one", "a number"),
        ("gaussian:noise_multiplier=-1", "> 0"),
        ("gaussian:noise_multiplier=nan", "> 0"),
        ("gaussian:noise_multiplier=?", "a number"),
        ("discrete_gaussian:scale=1,l2_sensitivity_squared=1.5", "whole number"),
        ("poisson:rate=2,gaussian:noise_multiplier=1", "sampling_rate"),
        ("poisson:size=2,gaussian:noise_multiplier=1", "needs rate="),
        ("poisson:rate=0.1", "unknown kind"),
        ("pure:epsilon=1,gaussian:noise_multiplier=1", "no sampling step"),
        ("poisson:rate=0.1,poisson:rate=0.1,gaussian:noise_multiplier=1", "at most one"),
        ("approximate:epsilon=1", "delta"),
    ],
)
def test_what_is_no_event_is_refused_with_the_rule(text, rule):
    with pytest.raises(EventTextError, match=rule):
        parse_events([text])


def test_every_kind_that_is_listed_is_read():
    for line in kinds_text().splitlines():
        text = re.sub(r"(rate|delta)=", r"\g<1>=0.5", line)
        text = re.sub(r"([a-z0-9_]+)=(?=,|$)", r"\1=2", text).replace("EVENT", "pure:epsilon=1")
        if line.startswith("discrete_gaussian"):
            text = text.replace("noise_multiplier=2,", "")
        assert len(parse_events([text])) == 1


def test_a_template_has_one_number_open():
    template = parse_template([SAMPLED.replace("1.0", "?"), "x7", "pure:epsilon=0.1"])
    assert (template.parameter, template.grows) == ("noise_multiplier", True)
    assert template.fill(3.0) == ((PoissonSampled(Gaussian(3.0), 0.01), 7), (PureDP(0.1), 1))
    assert not parse_template(["pure:epsilon=?"]).grows
    for text in ("pure:epsilon=1", "pure:epsilon=? pure:epsilon=?", "approximate:epsilon=1,delta=?"):
        with pytest.raises(EventTextError):
            parse_template([text])


# ---------------------------------------------------------------- prices


def test_a_price_is_an_upper_bound_and_close_to_the_exact_value():
    uses = parse_events([f"{SAMPLED} x1000"])
    found = {quote.accountant: quote for quote in quotes(uses, neighbours="add_remove_one", delta=1e-5)}
    assert set(found) == set(accountants()) == ALL
    assert found["zcdp"].reason
    assert "Gaussian(" not in found["zcdp"].reason, "in words"
    for name, slack in (("rdp", 1.2), ("numerical", 1 + 1e-6)):
        if name in found:
            assert TIGHT * (1 - 1e-12) <= found[name].epsilon < TIGHT * slack


def test_the_best_price_is_the_least_and_none_is_an_error():
    assert best_of([Quote("a", 2.0, 0.1, 0.5), Quote("b", 1.0, 0.1, 0.6), Quote("c", reason="no")]).accountant == "b"
    with pytest.raises(StudyError, match="no accountant"):
        best_of([Quote("c", reason="no")])


def test_price_prints_epsilon_rounded_up_and_what_it_means():
    body = run_json("price", "gaussian:noise_multiplier=2", "x4", "--delta", "1e-5")
    assert body["epsilon"] >= 4.37717809568122 * (1 - 1e-12)
    assert body["events"] == [{"event": {"kind": "gaussian", "noise_multiplier": "2.0"}, "count": 4}]
    text = run("price", "gaussian:noise_multiplier=2", "x4", "--delta", "1e-5").stdout
    assert body["epsilon"] <= float(re.search(r"epsilon at most ([0-9.]+)", text)[1]) <= body["epsilon"] * 1.00001
    # mu = 1: an even guess is right with probability Phi(1/2) = 0.69.
    assert body["guess_success"] >= stats.norm.cdf(0.5) - 1e-12
    assert f"at most {math.ceil(100 * body['guess_success'] - 1e-9)} times" in text


def test_price_turns_round_at_an_epsilon():
    body = run_json("price", "gaussian:noise_multiplier=1", "--epsilon", "1")
    exact = 0.126936737506643945800829624758
    assert exact * (1 - 1e-12) <= body["delta"] < exact * 1.6
    assert "delta at most" in run("price", "gaussian:noise_multiplier=1", "--epsilon", "1").stdout


def test_compare_lists_every_accountant_with_a_price_or_a_reason():
    body = run_json("compare", SAMPLED, "x10", "--delta", "1e-5")
    assert {price["accountant"] for price in body["prices"]} == set(accountants())
    assert all(("reason" in price) != ("epsilon" in price) for price in body["prices"])
    text = run("compare", "gaussian:noise_multiplier=3", "--delta", "1e-5").stdout
    assert "adaptively" in text
    assert "fixed in advance" in text


def test_a_curve_grows_and_ends_at_the_price():
    uses = parse_events(["gaussian:noise_multiplier=20", "x40", "pure:epsilon=0.05", "x10"])
    drawn = curve(uses, neighbours="add_remove_one", delta=1e-6)
    assert (drawn.steps[0], drawn.steps[-1]) == (1, 50)
    for name, values in drawn.epsilons.items():
        assert list(values) == sorted(values)
        [quote] = quotes(uses, neighbours="add_remove_one", delta=1e-6, accountant=name)
        assert values[-1] == quote.epsilon
    # Below blind guessing, above zero, falling.
    assert all(miss <= 1 - rate + 1e-12 for rate, miss in zip(drawn.rates, drawn.misses, strict=True))
    assert list(drawn.misses) == sorted(drawn.misses, reverse=True)
    assert drawn.misses[0] > 0.99
    only = curve(uses, neighbours="add_remove_one", delta=1e-6, accountant="zcdp")
    assert list(only.epsilons) == ["zcdp"]


def test_the_trade_off_curve_is_below_that_of_the_gaussian():
    drawn = curve(parse_events(["gaussian:noise_multiplier=1"]), neighbours="add_remove_one", delta=1e-6)
    exact = [stats.norm.cdf(stats.norm.isf(rate) - 1) if rate > 0 else 1.0 for rate in drawn.rates]
    assert all(miss <= value + 1e-12 for miss, value in zip(drawn.misses, exact, strict=True))
    assert max(value - miss for miss, value in zip(drawn.misses, exact, strict=True)) < 0.1


def test_calibration_meets_its_target_and_a_percent_less_noise_misses_it():
    name = "numerical"
    words = ["--epsilon", "1", "--delta", "1e-6", "--accountant", name]
    body = run_json("calibrate", "gaussian:noise_multiplier=?", "x100", *words)
    assert body["epsilon"] <= 1.0
    less = parse_events([f"gaussian:noise_multiplier={body['value'] * 0.99!r} x100"])
    [quote] = quotes(less, neighbours="add_remove_one", delta=1e-6, accountant=name)
    assert quote.epsilon > 1.0
    budget = run_json("calibrate", "zcdp:rho=?", "--epsilon", "1", "--delta", "1e-6", "--accountant", "zcdp")
    assert budget["parameter"] == "rho"
    assert budget["epsilon"] <= 1.0
    assert budget["value"] == pytest.approx(0.0212, rel=0.2)


def test_calibration_to_an_attackers_gain_is_that_of_the_gaussian():
    words = ["--advantage", "0.1", "--delta", "1e-6"]
    body = run_json("calibrate", "gaussian:noise_multiplier=?", "x4", *words)
    # 2 Phi(mu / 2) - 1 = 0.1 with mu = 2 / s.
    assert body["value"] == pytest.approx(1 / stats.norm.ppf(0.55), rel=1e-6)
    assert body["attack_advantage"] <= 0.1
    assert body["target"] == {"advantage": 0.1}
    for wrong in ([], ["--advantage", "0.1", "--epsilon", "1"]):
        done = run("calibrate", "gaussian:noise_multiplier=?", "--delta", "1e-6", *wrong)
        assert (done.exit_code, "exactly one target" in done.stderr) == (2, True)


# ---------------------------------------------------------------- the page


def test_the_page_holds_all_it_needs_and_both_curves(tmp_path):
    file = tmp_path / "plan.html"
    words = ["discrete_gaussian:scale=20", "x100", "pure:epsilon=0.1", "--delta", "1e-5"]
    done = run("price", *words, "--accountant", "rdp", "--plot", file)
    assert done.exit_code == 0, done.output
    assert str(file) in done.stdout
    page = file.read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!#|data:)', page)
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert len(page) < 100_000
    assert not re.search(r"\b(nan|inf|None)\b", re.sub(r"<style>.*</style>", "", page, flags=re.DOTALL))


def test_a_single_release_and_an_endless_price_can_be_drawn():
    page = account_page(
        [("1 x <b>", 1)],
        neighbours="replace_one",
        delta=1e-6,
        steps=[1],
        epsilons={"zcdp": [math.inf], "rdp": [2.0]},
        rates=[0.0, 0.5, 1.0],
        misses=[1.0, 0.2, 0.0],
        advantage=0.4,
        reasons={"numerical": "no <i>"},
    )
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "70 in 100" in page
    assert "∞" in page
    assert "numerical gives no price" in page
    assert "NaN" not in str(steps_chart([1, 5], {"rdp": [0.0, 0.0]}))


# ---------------------------------------------------------------- refusals and speed


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["price", "gaussian:noise_multiplier=1"], "exactly one"),
        (["price", "gaussian:noise_multiplier=1", "--delta", "1e-5", "--epsilon", "1"], "exactly one"),
        (["price", "gaussian:noise_multiplier=1", "--delta", "2"], "between 0 and 1"),
        (["price", "gaussian:noise_multiplier=1", "--epsilon", "-1"], "> 0"),
        (["price", "gaussian:noise_multiplier=0", "--delta", "1e-5"], "> 0"),
        (["price", "gaussian:noise_multiplier=1", "--delta", "1e-5", "--accountant", "best guess"], "accountant"),
        (["price", "randomized_response:epsilon=1", "--delta", "1e-5", "--accountant", "rdp"], "no accountant"),
        (["price", "gaussian:noise_multiplier=1", "--epsilon", "1", "--plot", "x.html"], "needs --delta"),
        (["curve", "gaussian:noise_multiplier=?", "--delta", "1e-5"], "a number"),
        (["calibrate", "gaussian:noise_multiplier=1", "--epsilon", "1", "--delta", "1e-5"], "written \\?"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_two(words, rule):
    done = run(*words)
    assert done.exit_code == 2
    assert re.search(rule, done.stderr)
    assert done.stdout == ""
    assert "Traceback" not in done.output
    as_json = json.loads(run(*words, "--json").stdout)
    assert as_json["exit_code"] == 2


def test_an_unwritable_page_is_one_message(tmp_path):
    done = run("price", "zcdp:rho=1", "--delta", "1e-5", "--plot", tmp_path / "none" / "x.html")
    assert done.exit_code == 2
    assert "no folder" in done.stderr


def test_help_shows_the_grammar_and_imports_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "synthema", "account", "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0
    assert "poisson:rate=0.01,gaussian:noise_multiplier=1.0 x1000" in done.stdout
    for module in ("numpy", "scipy", "pandas", "privacy"):
        assert not re.search(rf"\| +{module}$", done.stderr, flags=re.MULTILINE), module
