"""Random compositions against what must hold, and against two other implementations.

    python benchmarks/fuzz_accounting.py properties --count 10000 --seed 1
    python benchmarks/fuzz_accounting.py pld --count 300 --seed 1      # dp-accounting, optimistic and pessimistic
    python benchmarks/fuzz_accounting.py prv --count 100 --seed 1      # prv-accountant, 3 s for each

Each prints a JSON summary and ends with code 1 if anything was violated; every violation names the composition. A
comparison is violated only where certified ends contradict each other: the lower end of what must be less is above
the upper end of what must be more.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from privacy._prv_worker import answer
from privacy.events import (
    ApproximateDP,
    DiscreteGaussian,
    DiscreteLaplace,
    Event,
    ExponentialMechanism,
    Gaussian,
    Laplace,
    PoissonSampled,
    PureDP,
    RandomizedResponse,
    Repeated,
)
from privacy.numerical import NumericalAccountant
from privacy.prv import CrosscheckError, CrosscheckTimeout, PrvAccountant
from privacy.rdp import RdpAccountant

# Certified ends may differ from a bound of another kind by the search for its best order.
LOOSE = 1e-4
CERTIFIED = 1e-9
SLOW = 0.050
PRV_SECONDS = 3.0

Parts = tuple[tuple[Event, int], ...]


@dataclass
class Case:
    """One composition and the questions put to it."""

    parts: Parts
    neighbours: str
    delta: float
    epsilon: float

    def account(self, make=NumericalAccountant, parts: Parts | None = None):
        accountant = make(neighbours=self.neighbours)
        for event, count in self.parts if parts is None else parts:
            accountant.compose(event, count=count)
        return accountant


@dataclass
class Findings:
    """What was seen, and what contradicts itself."""

    violations: list[dict[str, str]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    slowest: str = ""
    counts: Counter[str] = field(default_factory=Counter)

    def check(self, holds: bool, what: str, case: Case, **numbers: object) -> None:  # noqa: FBT001 - reads as assert
        self.counts["checks"] += 1
        if not holds:
            self.violations.append(
                {"what": what, "case": repr(case), **{name: repr(value) for name, value in numbers.items()}}
            )

    def timed(self, case: Case, ask):
        start = time.perf_counter()
        answer = ask()
        taken = time.perf_counter() - start
        if taken > max(self.seconds, default=0.0):
            self.slowest = repr(case)
        self.seconds.append(taken)
        return answer

    def summary(self) -> dict[str, Any]:
        out: dict[str, Any] = dict(self.counts)
        if self.seconds:
            out |= {
                "calls": len(self.seconds),
                "median_ms": round(1e3 * float(np.median(self.seconds)), 2),
                "share_above_50_ms": round(float(np.mean(np.array(self.seconds) > SLOW)), 4),
                "slowest_ms": round(1e3 * max(self.seconds), 1),
                "slowest": self.slowest,
            }
        return out | {"n_violations": len(self.violations), "violations": self.violations}


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


def random_event(rng: np.random.Generator, neighbours: str) -> Event:
    """Any family, over the whole range of its parameters."""
    noise = log_uniform(rng, 0.05, 1e4)
    rate = log_uniform(rng, 1e-8, 1.0)
    epsilon = log_uniform(rng, 1e-4, 10.0)
    choices: list[Event] = [
        Gaussian(noise),
        Laplace(noise),
        DiscreteLaplace(noise),
        DiscreteGaussian(noise_multiplier=max(noise, 0.2)),
        PureDP(epsilon),
        ExponentialMechanism(epsilon),
        ApproximateDP(epsilon, log_uniform(rng, 1e-15, 1e-3)),
    ]
    if neighbours == "replace_one":
        choices += [RandomizedResponse(epsilon)] * 2
    else:
        choices += [PoissonSampled(Gaussian(noise), rate)] * 5
        choices += [PoissonSampled(PureDP(epsilon), rate), PoissonSampled(Laplace(noise), rate)]
    return choices[rng.integers(len(choices))]


def random_case(rng: np.random.Generator) -> Case:
    neighbours = "replace_one" if rng.random() < 0.2 else "add_remove_one"
    parts = tuple(
        (random_event(rng, neighbours), int(log_uniform(rng, 1, 1e9)))
        for _ in range(1 + rng.integers(4) * rng.integers(2))
    )
    delta = log_uniform(rng, 1e-300, 0.5) if rng.random() < 0.1 else log_uniform(rng, 1e-15, 0.5)
    return Case(parts, neighbours, delta, log_uniform(rng, 1e-4, 1e2))


def more_private(event: Event) -> Event:
    """The same release with a tenth more noise."""
    match event:
        case Gaussian() | Laplace() | DiscreteLaplace():
            return replace(event, noise_multiplier=1.1 * event.noise_multiplier)
        case DiscreteGaussian():
            return DiscreteGaussian(noise_multiplier=1.1 * event.scale)
        case PoissonSampled():
            return PoissonSampled(more_private(event.event), event.sampling_rate)
        case _:
            return replace(event, epsilon=event.epsilon / 1.1)


def rarer(event: Event) -> Event | None:
    """The same release on a smaller sample."""
    if isinstance(event, PoissonSampled):
        return PoissonSampled(event.event, event.sampling_rate / 1.1)
    return None


def weakened(rng: np.random.Generator, case: Case) -> tuple[str, Case]:
    """A case that is more private, or asked at a larger delta, and what was changed."""
    at = int(rng.integers(len(case.parts)))
    event, count = case.parts[at]
    changes: dict[str, tuple[Event, int]] = {"noise": (more_private(event), count)}
    if count > 1:
        changes["count"] = (event, count - max(1, count // 10))
    if (other := rarer(event)) is not None:
        changes["rate"] = (other, count)
    what = ("delta", *changes)[rng.integers(len(changes) + 1)]
    if what == "delta":
        return what, replace(case, delta=min(1.1 * case.delta, 0.9))
    return what, replace(case, parts=(*case.parts[:at], changes[what], *case.parts[at + 1 :]))


def split(rng: np.random.Generator, parts: Parts) -> Parts:
    """The same releases in another order and in pieces."""
    pieces: list[tuple[Event, int]] = []
    for event, count in parts:
        first = int(rng.integers(1, count)) if count > 1 else 0
        pieces.append((Repeated(event, count - first), 1))
        if first:
            pieces.append((event, first))
    return tuple(pieces[i] for i in rng.permutation(len(pieces)))


def examine(rng: np.random.Generator, case: Case, found: Findings, questions: int) -> None:
    """Put so many of the questions to one composition, in a random order."""
    made = case.account()
    low, high = interval = found.timed(case, lambda: made.epsilon_interval(delta=case.delta))
    found.check(0 <= low <= high, "lower <= upper of epsilon", case, interval=interval)
    found.counts["certified"] += high - low <= CERTIFIED * high + 1e-12 if math.isfinite(high) else low == high
    found.counts["tight"] += made.is_tight

    def below_rdp() -> None:
        theirs = case.account(RdpAccountant).epsilon(delta=case.delta)
        found.check(
            high <= theirs * (1 + LOOSE) + 1e-9, "epsilon is at most RDP's", case, interval=interval, rdp=theirs
        )

    def in_another_order() -> None:
        again = found.timed(case, lambda: case.account(parts=split(rng, case.parts)).epsilon_interval(delta=case.delta))
        found.check(again[0] <= high and low <= again[1], "another order", case, interval=interval, again=again)
        found.counts["asked in another order"] += 1
        found.counts["same in another order"] += (
            again[1] <= high * (1 + CERTIFIED) + 1e-12 and high <= again[1] * (1 + CERTIFIED) + 1e-12
        )

    def monotone() -> None:
        what, weaker = weakened(rng, case)
        other = found.timed(weaker, lambda: weaker.account().epsilon_interval(delta=weaker.delta))
        found.check(other[0] <= high, f"monotone in {what}", case, interval=interval, weaker=weaker, other=other)

    def inverse() -> None:
        for end, at in (("upper", high), ("lower", low)):
            if not 0 < at < math.inf:
                continue
            back = found.timed(case, lambda at=at: made.log_delta_interval(epsilon=at))
            log_delta = math.log(case.delta)
            slack = 1e-12 * (1 + abs(log_delta))
            holds = back[0] <= log_delta + slack if end == "upper" else log_delta - slack <= back[1]
            found.check(holds, f"delta at the {end} epsilon", case, interval=interval, log_delta=back)

    def falling() -> None:
        deltas = found.timed(case, lambda: made.delta_interval(epsilon=case.epsilon))
        found.check(0 <= deltas[0] <= deltas[1] <= 1, "lower <= upper of delta", case, deltas=deltas)
        theirs = case.account(RdpAccountant).delta(epsilon=case.epsilon)
        found.check(deltas[1] <= theirs * (1 + 1e-3) + 1e-12, "delta is at most RDP's", case, deltas=deltas, rdp=theirs)
        more = replace(case, epsilon=1.1 * case.epsilon)
        after = found.timed(more, lambda: made.delta_interval(epsilon=more.epsilon))
        found.check(after[0] <= deltas[1], "monotone in epsilon", case, deltas=deltas, after=after)

    asked = (below_rdp, in_another_order, monotone, inverse, falling)
    for i in rng.permutation(len(asked))[:questions]:
        asked[i]()


def properties(rng: np.random.Generator, count: int, questions: int = 5) -> Findings:
    """Monotone, free of order, inverse to each other, below RDP: for compositions of all families."""
    found = Findings()
    for _ in range(count):
        case = random_case(rng)
        found.counts["compositions"] += 1
        try:
            examine(rng, case, found, questions)
        except Exception as error:  # noqa: BLE001 - whatever is raised is a finding
            found.check(False, f"no exception: {type(error).__name__}: {error}", case)
    return found


def moderate_case(rng: np.random.Generator, *, prv: bool = False) -> Case:
    """A composition that packages with grids can hold: an epsilon of about 0.01 to 20 in all."""
    n_parts = 1 + int(rng.integers(3))
    parts: list[tuple[Event, int]] = []
    for _ in range(n_parts):
        count = int(log_uniform(rng, 1, 3000))
        # The standard deviation of the sum of the part's losses.
        spread = log_uniform(rng, 0.02, 3.0) / math.sqrt(count * n_parts)
        noise = 1 / spread
        rate = log_uniform(rng, 1e-3, 1.0)
        sampled = max(0.3, rate / spread) if rate < 0.9 else noise
        choices: list[Event] = [
            PoissonSampled(Gaussian(sampled), rate),
            Gaussian(noise),
            Laplace(noise),
            PureDP(spread),
            ApproximateDP(spread, log_uniform(rng, 1e-12, 1e-9)),
        ]
        if not prv:
            choices += [DiscreteLaplace(noise), DiscreteGaussian(noise_multiplier=max(noise, 0.5))]
            choices += [PoissonSampled(Laplace(sampled), rate)]
        parts.append((choices[rng.integers(len(choices))], count))
    return Case(tuple(parts), "add_remove_one", log_uniform(rng, 1e-8, 0.1), 1.0)


def pld_of(event: Event, count: int, *, pessimistic: bool) -> Any:
    """The event in dp-accounting, composed below its accountants: they drop the count of randomised response."""
    from dp_accounting.pld import common
    from dp_accounting.pld import privacy_loss_distribution as pld

    options = {
        "pessimistic_estimate": pessimistic,
        "value_discretization_interval": 1e-4,
        "use_connect_dots": pessimistic,  # it knows no optimistic law
    }
    match event:
        case Gaussian(noise_multiplier=noise):
            one = pld.from_gaussian_mechanism(noise, **options)
        case PoissonSampled(event=Gaussian(noise_multiplier=noise), sampling_rate=rate):
            one = pld.from_gaussian_mechanism(noise, sampling_prob=rate, **options)
        case Laplace(noise_multiplier=noise):
            one = pld.from_laplace_mechanism(noise, **options)
        case PoissonSampled(event=Laplace(noise_multiplier=noise), sampling_rate=rate):
            one = pld.from_laplace_mechanism(noise, sampling_prob=rate, **options)
        case DiscreteLaplace(noise_multiplier=noise):
            one = pld.from_discrete_laplace_mechanism(1 / noise, **options)
        case DiscreteGaussian(scale=scale):
            one = pld.from_discrete_gaussian_mechanism(scale, **options)
        case PureDP(epsilon=epsilon):
            one = pld.from_privacy_parameters(
                common.DifferentialPrivacyParameters(epsilon), value_discretization_interval=1e-4
            )
        case ApproximateDP(epsilon=epsilon, delta=delta):
            one = pld.from_privacy_parameters(
                common.DifferentialPrivacyParameters(epsilon, delta), value_discretization_interval=1e-4
            )
        case _:
            raise TypeError(event)
    return one.self_compose(count)


def pld(rng: np.random.Generator, count: int) -> Findings:
    """Between the optimistic and the pessimistic epsilon of dp-accounting."""
    found = Findings()
    for _ in range(count):
        case = moderate_case(rng)
        found.counts["compositions"] += 1
        low, high = found.timed(case, lambda case=case: case.account().epsilon_interval(delta=case.delta))
        # From privacy parameters there is a pessimistic law only.
        exact = not any(isinstance(event, PureDP | ApproximateDP) for event, _ in case.parts)
        found.counts["with an optimistic end"] += exact
        ends = [0.0, math.inf]
        for pessimistic in (False, True) if exact else (True,):
            total = None
            for event, times in case.parts:
                one = pld_of(event, times, pessimistic=pessimistic)
                total = one if total is None else total.compose(one)
            ends[pessimistic] = float(total.get_epsilon_for_delta(case.delta))
        found.check(low <= ends[1] * (1 + 1e-9), "not above the pessimistic epsilon", case, ours=(low, high), ends=ends)
        found.check(ends[0] * (1 - 1e-9) <= high, "not below the optimistic epsilon", case, ours=(low, high), ends=ends)
    return found


class ForkedPrv(PrvAccountant):
    """The adapter in a fork of this process, so that the time limit does not pay for the imports."""

    def _ask(self, of, values, delta_error):
        releases = [[*self._random_variable(event), count] for event, count in self._tally.counts.items()]
        question = {
            "releases": releases,
            "epsilon_error": self.epsilon_error,
            "delta_error": delta_error,
            "of": of,
            "values": values,
        }
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()

        def work():
            try:
                theirs.send(answer(question))
            except Exception as error:  # noqa: BLE001 - whatever the package raises is counted
                theirs.send(f"{type(error).__name__}: {error}")

        process = context.Process(target=work, daemon=True)
        process.start()
        try:
            if not ours.poll(self.time_limit):
                raise CrosscheckTimeout(self.time_limit)
            found = ours.recv()
        finally:
            process.kill()
            process.join()
        if isinstance(found, str):
            raise CrosscheckError(found)
        return [(float(low), float(estimate), float(high)) for low, estimate, high in found]


def prv(rng: np.random.Generator, count: int) -> Findings:
    """Inside the interval of prv-accountant, where it answers in time."""
    import prv_accountant  # noqa: F401 - once, before the first fork

    found = Findings()
    for _ in range(count):
        case = moderate_case(rng, prv=True)
        found.counts["compositions"] += 1
        low, high = found.timed(case, lambda case=case: case.account().epsilon_interval(delta=case.delta))

        def make(*, neighbours):
            return ForkedPrv(neighbours=neighbours, epsilon_error=0.05, time_limit=PRV_SECONDS)

        try:
            ends = case.account(make).epsilon_interval(delta=case.delta)
        except CrosscheckTimeout:
            found.counts["timeouts"] += 1
            continue
        except CrosscheckError as error:
            found.counts[f"no answer: {error.reason[:60]}"] += 1
            continue
        found.counts["answers"] += 1
        found.check(low <= ends[1] and ends[0] <= high, "inside the interval", case, ours=(low, high), ends=ends)
    return found


COMMANDS = {"properties": (properties, 10_000), "pld": (pld, 300), "prv": (prv, 100)}


def main(arguments: list[str] | None = None) -> int:
    """Run one comparison; return 1 if anything was violated."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--count", type=int, help="how many compositions")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--questions", type=int, default=5, help="properties: how many of the five each is asked")
    options = parser.parse_args(arguments)
    run, usual = COMMANDS[options.command]
    start = time.perf_counter()
    more = {"questions": options.questions} if run is properties else {}
    found = run(np.random.default_rng(options.seed), options.count or usual, **more)
    summary = {"command": options.command, "seed": options.seed} | found.summary()
    summary["seconds"] = round(time.perf_counter() - start, 1)
    json.dump(summary, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 1 if found.violations else 0


if __name__ == "__main__":
    sys.exit(main())
