"""`synthema account`: what a list of releases costs, how much noise a target needs, and how the price grows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from synthema.cli.account_prices import Quote
    from synthema.cli.event_grammar import Uses

_HELP = """Price releases before they happen. Nothing here touches data.

An EVENT is KIND:NAME=NUMBER[,NAME=NUMBER...]. It is repeated by xCOUNT and sampled by a step before it:

\b
  gaussian:noise_multiplier=1.0 x100
  poisson:rate=0.01,gaussian:noise_multiplier=1.0 x1000
  without_replacement:size=50,population=2000,gaussian:noise_multiplier=2
  discrete_gaussian:scale=10,l2_sensitivity_squared=21
  discrete_laplace:noise_multiplier=10
  exponential:epsilon=0.1 x20

\b
Kinds, noise_multiplier being noise / sensitivity:
  gaussian, discrete_gaussian, laplace, discrete_laplace
  randomized_response, exponential, permute_and_flip, pure (epsilon)
  approximate (epsilon, delta), zcdp (rho)
  distributed_gaussian, skellam (see `synthema account kinds`)
"""

account_app = typer.Typer(help=_HELP, no_args_is_help=True)

Events = Annotated[list[str], typer.Argument(metavar="EVENT...", help="Releases, in order; see `synthema account`.")]
Relation = Annotated[
    Literal["add_remove_one", "replace_one"], typer.Option(help="Which tables count as neighbours, by patient.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]
Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE.html", help="Also write a page with both curves.")]
Delta = Annotated[float | None, typer.Option(help="Delta, far below one in the number of patients.")]
Epsilon = Annotated[float | None, typer.Option(help="Epsilon: then delta is what is asked for.")]
By = Annotated[str, typer.Option("--accountant", help="best, zcdp, rdp or numerical.")]


@account_app.command()
def price(
    events: Events,
    epsilon: Epsilon = None,
    delta: Delta = None,
    neighbours: Relation = "add_remove_one",
    accountant: By = "best",
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Say what the releases cost together: epsilon at --delta, or delta at --epsilon."""
    with _errors(as_json=as_json):
        from synthema.cli.account_prices import best_of, quotes, uses_json
        from synthema.cli.event_grammar import parse_events

        _check_target(epsilon, delta)
        uses = parse_events(events)
        quote = best_of(quotes(uses, neighbours=neighbours, epsilon=epsilon, delta=delta, accountant=accountant))
        body = {"events": uses_json(uses), "neighbours": neighbours, **quote.to_dict()}
        _plot(plot, uses, neighbours=neighbours, delta=delta, accountant=accountant, body=body)
        _print(body, _price_text(uses, quote, neighbours, asked_delta=delta is None), as_json=as_json)


@account_app.command()
def compare(
    events: Events,
    epsilon: Epsilon = None,
    delta: Delta = None,
    neighbours: Relation = "add_remove_one",
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Price the releases by every accountant, side by side."""
    with _errors(as_json=as_json):
        from privacy.auditing import rounded_up
        from synthema.cli.account_prices import best_of, quotes, uses_json
        from synthema.cli.event_grammar import parse_events

        _check_target(epsilon, delta)
        uses = parse_events(events)
        found = quotes(uses, neighbours=neighbours, epsilon=epsilon, delta=delta)
        best_of(found)
        body = {
            "events": uses_json(uses),
            "neighbours": neighbours,
            "prices": [quote.to_dict() for quote in found],
        }
        _plot(plot, uses, neighbours=neighbours, delta=delta, accountant="best", body=body)
        lines = [_uses_text(uses), f"{'accountant':<12}{'epsilon':>12}{'delta':>12}   valid"]
        lines += [
            f"{quote.accountant:<12}{'-':>12}{'-':>12}   no price"
            if quote.reason
            else f"{quote.accountant:<12}{rounded_up(quote.epsilon, 6):>12}{rounded_up(quote.delta, 4):>12}   "
            + ("also if chosen adaptively" if quote.adaptive else "for a list fixed in advance")
            for quote in found
        ]
        lines += [f"{quote.accountant} gives no price. {quote.reason}" for quote in found if quote.reason]
        _print(body, "\n".join(lines), as_json=as_json)


@account_app.command()
def curve(
    events: Events,
    delta: Annotated[float, typer.Option(help="Delta, far below one in the number of patients.")],
    neighbours: Relation = "add_remove_one",
    accountant: By = "best",
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Follow epsilon over the steps, and show the errors that any attacker makes at least."""
    with _errors(as_json=as_json):
        from privacy.auditing import rounded_up
        from synthema.cli.account_prices import curve as make_curve
        from synthema.cli.account_prices import uses_json
        from synthema.cli.event_grammar import parse_events

        _check_target(None, delta)
        uses = parse_events(events)
        found = make_curve(uses, neighbours=neighbours, delta=delta, accountant=accountant)
        body = {"events": uses_json(uses), "neighbours": neighbours, "delta": delta, **found.to_dict()}
        _plot(plot, uses, neighbours=neighbours, delta=delta, accountant=accountant, body=body, known=found)
        lines = [_uses_text(uses), f"epsilon at most, delta {rounded_up(delta)}, {neighbours}"]
        lines.append(f"{'releases':>14}" + "".join(f"{name:>14}" for name in found.epsilons))
        lines += [
            f"{step:>14,}" + "".join(f"{rounded_up(values[i], 5):>14}" for values in found.epsilons.values())
            for i, step in enumerate(found.steps)
        ]
        lines += ["", "an attack that accuses wrongly so often", "               misses the patient at least so often"]
        lines += [
            f"{rate:>14.0%}{_percent_down(miss):>14}"
            for rate, miss in zip(found.rates, found.misses, strict=True)
            if any(math.isclose(rate, shown) for shown in (0.01, 0.05, 0.1, 0.2, 0.3, 0.5))
        ]
        _print(body, "\n".join(lines), as_json=as_json)


@account_app.command()
def calibrate(
    events: Events,
    epsilon: Annotated[float | None, typer.Option(help="Target: epsilon at most this, at --delta.")] = None,
    delta: Annotated[float | None, typer.Option(help="Delta of the target, or at which to report epsilon.")] = None,
    advantage: Annotated[
        float | None, typer.Option(help="Target: true minus false positive rate of any attack at most this.")
    ] = None,
    neighbours: Relation = "add_remove_one",
    accountant: By = "numerical",
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Find the number written `?`: the least noise, or the largest budget, that meets the target.

    For example: synthema account calibrate "gaussian:noise_multiplier=? x100" --epsilon 1 --delta 1e-6

    With --advantage in place of --epsilon, the target is what any attack gains; --delta then only says where epsilon
    is reported.
    """
    with _errors(as_json=as_json):
        from privacy.calibration import calibrate_noise_multiplier, calibrate_to_attack_advantage
        from privacy.events import Composed, Event, Repeated
        from synthema.cli.account_prices import chosen, quotes, uses_json
        from synthema.cli.event_grammar import parse_template
        from synthema.errors import StudyError

        if delta is None or (epsilon is None) == (advantage is None):
            raise StudyError("give exactly one target: --epsilon, or --advantage; and --delta with either")
        _check_target(None, delta)
        template = parse_template(events)
        makers = chosen(accountant)
        if len(makers) != 1:
            raise StudyError("calibrate needs one accountant: --accountant numerical, rdp or zcdp")
        [(name, make)] = makers.items()

        def value_of(noise: float) -> float:
            # A budget shrinks as the noise grows: its reciprocal is calibrated.
            return noise if template.grows else 1 / noise

        def event_of(noise: float) -> Event:
            return Composed(tuple(Repeated(event, count) for event, count in template.fill(value_of(noise))))

        if epsilon is not None:
            noise = calibrate_noise_multiplier(
                event_of, epsilon=epsilon, delta=delta, accountant=make, neighbours=neighbours
            )
        else:
            noise = calibrate_to_attack_advantage(
                event_of, advantage=advantage or 0.0, accountant=make, neighbours=neighbours
            )
        value = value_of(noise)
        uses = template.fill(value)
        [quote] = quotes(uses, neighbours=neighbours, delta=delta, accountant=name)
        body = {
            "parameter": template.parameter,
            "value": value,
            "events": uses_json(uses),
            "neighbours": neighbours,
            "target": {"epsilon": epsilon, "delta": delta} if epsilon is not None else {"advantage": advantage},
            **quote.to_dict(),
        }
        _plot(plot, uses, neighbours=neighbours, delta=delta, accountant="best", body=body)
        _print(
            body,
            f"{template.parameter}={value!r}\n" + _price_text(uses, quote, neighbours, asked_delta=False),
            as_json=as_json,
        )


@account_app.command()
def kinds() -> None:
    """List the kinds of events with their parameters."""
    from synthema.cli.event_grammar import kinds_text

    print(kinds_text())


def _check_target(epsilon: float | None, delta: float | None) -> None:
    from synthema.errors import StudyError

    if (epsilon is None) == (delta is None):
        raise StudyError("give exactly one of --delta (to learn epsilon) and --epsilon (to learn delta)")
    if delta is not None and not 0 < delta < 1:
        raise StudyError(f"--delta must lie strictly between 0 and 1, got {delta!r}")
    if epsilon is not None and not (epsilon > 0 and math.isfinite(epsilon)):
        raise StudyError(f"--epsilon must be a finite number > 0, got {epsilon!r}")


def _uses_text(uses: Uses) -> str:
    from privacy.auditing import describe

    return "\n".join(f"{count:,} x {describe(event)}" for event, count in uses)


def _price_text(uses: Uses, quote: Quote, neighbours: str, *, asked_delta: bool) -> str:
    from privacy.auditing import rounded_up

    found, given = ("delta", "epsilon") if asked_delta else ("epsilon", "delta")
    values = {"epsilon": quote.epsilon, "delta": quote.delta}
    # Of 100 guesses about one patient, with a coin's 50 to begin with; rounded up.
    right = min(100, math.ceil(100 * 0.5 * (1 + quote.advantage) - 1e-9))
    return "\n".join(
        (
            _uses_text(uses),
            f"{found} at most {rounded_up(values[found], 6)} at {given} {values[given]:g} ({neighbours})",
            f"accountant: {quote.accountant}; "
            + (
                "holds although later releases may depend on earlier answers"
                if quote.adaptive
                else "holds for a list that is fixed in advance"
            ),
            f"a guess about one patient is right 50 times in 100 by a coin, and with all answers at most {right} times",
        )
    )


def _percent_down(share: float) -> str:
    return f"{math.floor(share * 1000 + 1e-9) / 10:.1f}%"


def _plot(
    file: Path | None,
    uses: Uses,
    *,
    neighbours: Literal["add_remove_one", "replace_one"],
    delta: float | None,
    accountant: str,
    body: dict[str, Any],
    known: Any = None,
) -> None:
    if file is None:
        return
    from synthema.cli.account_prices import curve as make_curve
    from synthema.errors import StudyError
    from synthema.report.account import account_page

    if delta is None:
        raise StudyError("--plot needs --delta, at which epsilon is drawn")
    if not file.parent.is_dir():
        raise StudyError(f"--plot: there is no folder {str(file.parent)!r}")
    drawn = known or make_curve(uses, neighbours=neighbours, delta=delta, accountant=accountant)
    file.write_text(
        account_page(
            [(_uses_text((use,)), use[1]) for use in uses],
            neighbours=neighbours,
            delta=delta,
            steps=drawn.steps,
            epsilons=drawn.epsilons,
            rates=drawn.rates,
            misses=drawn.misses,
            advantage=min(quote.advantage for quote in drawn.quotes if not quote.reason),
            reasons={quote.accountant: quote.reason for quote in drawn.quotes if quote.reason},
        ),
        encoding="utf-8",
    )
    body["plot"] = str(file)


def _print(body: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(body, indent=2, allow_nan=False))
    else:
        print(text)
        if "plot" in body:
            print(f"page: {body['plot']}")


@contextmanager
def _errors(*, as_json: bool) -> Iterator[None]:
    """Turn what cannot be read or priced into one message and the exit code of bad input."""
    from privacy import PrivacyError
    from synthema.cli.errors import BAD_INPUT, fail
    from synthema.errors import SynthemaError

    try:
        yield
    except (PrivacyError, SynthemaError, OSError, ValueError) as error:
        fail(error, BAD_INPUT, as_json=as_json)
