"""Ways to fit a regression with differential privacy, measured on small tables.

Prints the tables of docs/learning/private-regression.md:

    OPENBLAS_NUM_THREADS=1 python benchmarks/compare_private_regression.py error        # ways beside each other
    OPENBLAS_NUM_THREADS=1 python benchmarks/compare_private_regression.py coverage     # of 95 % intervals [a family]
    OPENBLAS_NUM_THREADS=1 python benchmarks/compare_private_regression.py central      # beside noise of one curator
    OPENBLAS_NUM_THREADS=1 python benchmarks/compare_private_regression.py predictions  # beside those without privacy
    OPENBLAS_NUM_THREADS=1 python benchmarks/compare_private_regression.py hard         # coverage on awkward tables

Errors are those of coefficients against the fit of all rows without privacy, in its standard errors: at 1, noise and
clipping cost as much as sampling does. All ways add the noise of three compute parties of which one may collude,
3 / 2 of the variance that is paid for.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from privacy import epsilon_to_rho
from synthema.errors import ModelFailed
from synthema.learning.design import Design
from synthema.learning.private_parts import vectors
from synthema.learning.private_posterior import Opened, posterior
from synthema.learning.private_questions import Shape
from synthema.learning.private_residuals import Kind, Residuals
from synthema.learning.private_rounds import ROUND_SHARES, PrivateNewton
from synthema.learning.responses import Patients, Response

Floats = npt.NDArray[np.float64]
Random = np.random.Generator
Way = Callable[[Shape, Patients, float, float, Random], tuple[Floats, Floats]]

DELTA = 1e-6
JOINT = 1.5


# --- tables -----------------------------------------------------------------------------------------------------------


def made_up(kind: Kind, n: int, random: Random) -> tuple[Shape, Patients, Floats]:
    """Two measures amid their bounds, a skewed one near its lower bound, a common and a rarer category."""
    x = np.ones((n, 6))
    x[:, 1] = np.clip(random.normal(0.1, 0.3, n), -1, 1)
    x[:, 2] = np.clip(-0.85 + random.exponential(0.2, n), -1, 1)
    x[:, 3] = np.clip(random.normal(-0.1, 0.25, n), -1, 1)
    x[:, 4] = random.random(n) < 0.5
    x[:, 5] = random.random(n) < 0.12
    terms = (("age", ""), ("lab", ""), ("score", ""), ("sex", "M"), ("group", "B"))
    design = Design(terms, (0.0,) * 6, (1.0,) * 6)
    match kind:
        case "logistic":
            beta = np.array([-0.2, 1.5, 0.8, -0.6, 0.4, 0.7])
            y = (random.random(n) < 1 / (1 + np.exp(-x @ beta))).astype(float)
            response = Response()
        case "poisson":
            beta = np.array([0.5, 0.8, 0.4, -0.4, 0.3, 0.5])
            y = np.minimum(random.poisson(np.exp(x @ beta)), 40).astype(float)
            response = Response(high=40.0)
        case "linear":
            beta = np.array([0.1, 0.3, 0.15, -0.1, 0.08, 0.12])
            y = np.clip(x @ beta + random.normal(0, 0.15, n), -1, 1)
            response = Response(low=-1.0, high=1.0)
    return Shape(kind, design, response), Patients(x, y, None), beta


def leukaemia() -> tuple[Shape, Patients]:
    """1,043 patients, death within a year; see `synthema.demo`."""
    import pandas as pd

    from synthema.demo import demo_frames, demo_study
    from synthema.learning.private_glm import shape_of
    from synthema.learning.regression import LogisticSpec
    from synthema.learning.responses import patients_of

    spec = LogisticSpec(covariates=("age", "sex", "wbc", "tpi"), horizon_days=365, mode="private", budget_share=1.0)
    schema = demo_study().data_schema
    return shape_of(spec, schema), patients_of(spec, schema, pd.concat(demo_frames().values()))


def rossi() -> tuple[Shape, Patients]:
    """432 prisoners, arrest within a year (lifelines); bounds as one would state them without the rows."""
    from lifelines.datasets import load_rossi

    rows = load_rossi()
    terms = (("age", ""), ("fin", "1"), ("mar", "1"), ("prio", ""), ("wexp", "1"))
    design = Design(terms, (0, 50.0, 0, 0, 10.0, 0), (1, 35.0, 1, 1, 10.0, 1))
    names = [name for name, _ in terms]
    raw = rows[names].to_numpy(dtype=float)
    x = np.column_stack([np.ones(len(rows)), (raw - design.centre[1:]) / design.scale[1:]])
    return Shape("logistic", design, Response()), Patients(x, rows["arrest"].to_numpy(dtype=float), None)


HARD = {
    "4 % have the event": "rare",
    "8 categories, the rarest 2 %": "levels",
    "11 numbers": "wide",
    "bounds 80 times the spread": "narrow",
    "odds ratio 5.7 a standard deviation": "strong",
    "residuals skewed as an exponential law": "skewed",
    "R squared 0.95": "tight",
    "events by time until event or loss": "times",
    "counts of mean 0.4, bounds up to 500": "loose",
}


def hard(name: str, n: int, random: Random) -> tuple[Shape, Patients, Floats]:
    """An awkward table: (shape, patients, coefficients)."""
    age, male = np.clip(random.normal(0, 0.35, n), -1, 1), random.random(n) < 0.5
    x, terms = np.column_stack([np.ones(n), age, male]), [("age", ""), ("sex", "M")]
    kind: Kind = "logistic"
    response = Response()
    offset = None
    match name:
        case "rare":
            beta = np.array([-3.5, 1.0, 0.5])
        case "strong":
            beta = np.array([0.0, 5.0, 1.5])
        case "levels":
            group = random.choice(8, n, p=[0.35, 0.2, 0.15, 0.1, 0.08, 0.06, 0.04, 0.02])
            x = np.column_stack([np.ones(n), age, group[:, None] == np.arange(1, 8)])
            terms = [("age", ""), *(("group", str(i)) for i in range(1, 8))]
            beta = np.array([-0.3, 1.0, 0.2, 0.4, -0.4, 0.6, -0.6, 0.3, 0.8])
        case "wide":
            raw = random.normal(0, 0.25, (n, 11))
            raw[:, 1] += 0.6 * raw[:, 0]
            x, terms = np.column_stack([np.ones(n), np.clip(raw, -1, 1)]), [(f"v{i}", "") for i in range(11)]
            beta = np.array([-0.5, 1.0, -0.5, 0.5, 0, 0, 0.3, -0.3, 0, 0.8, 0, 0])
        case "narrow":
            x[:, 1] = np.clip(-0.97 + random.exponential(0.0125, n), -1, 1)
            beta = np.array([19.2, 20.0, 0.5])
        case "skewed" | "tight":
            kind, response = "linear", Response(low=-1.0, high=1.0)
            beta = np.array([-0.4, 0.3, 0.1]) if name == "skewed" else np.array([0.0, 0.6, 0.1])
            residual = random.exponential(0.15, n) - 0.15 if name == "skewed" else random.normal(0, 0.05, n)
            y = np.clip(x @ beta + residual, -1, 1)
        case "times":
            kind, response = "poisson", Response(high=1.0, least_exposure=0.01)
            beta = np.array([0.3, 0.8, -0.4])
            lived, followed = random.exponential(np.exp(-x @ beta)), random.uniform(0.05, 1, n)
            y = (lived <= followed).astype(float)
            offset = np.log(np.clip(np.minimum(lived, followed), 0.01, 1))
        case "loose":
            kind, response = "poisson", Response(high=500.0)
            beta = np.array([-0.8, 0.8, -0.4])
            y = random.poisson(np.exp(x @ beta)).astype(float)
    if kind == "logistic":
        y = (random.random(n) < 1 / (1 + np.exp(-x @ beta))).astype(float)
    size = x.shape[1]
    return Shape(kind, Design(tuple(terms), (0.0,) * size, (1.0,) * size), response), Patients(x, y, offset), beta


# --- ways -------------------------------------------------------------------------------------------------------------


def pooled(shape: Shape, patients: Patients) -> tuple[Floats, Floats]:
    """The fit without privacy: coefficients and standard errors."""
    x, y, kind = patients.x, patients.y, shape.kind
    family = Residuals(kind, most=shape.response.high, sd=1.0, reach=1.0)
    beta = np.zeros(x.shape[1])
    beta[0] = math.log(y.mean()) if kind == "poisson" else 0.0
    for _ in range(60):
        mean, variance = family.moments(x @ beta)
        information = (x * variance[:, None]).T @ x
        step = np.linalg.solve(information, x.T @ (y - mean))
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    spread = float(((y - x @ beta) ** 2).sum() / (len(y) - x.shape[1])) if kind == "linear" else 1.0
    return beta, np.sqrt(spread * np.diag(np.linalg.inv(information)))


def ours(shape: Shape, patients: Patients, rho: float, factor: float, random: Random) -> tuple[Floats, Floats]:
    """The rounds of `synthema.learning.private_rounds`, with continuous noise."""
    newton = rounds_with_noise(shape, patients, rho, factor, random)
    beta, covariance = newton.on_bounds_scale()
    return beta, np.sqrt(np.diag(covariance))


def rounds_with_noise(
    shape: Shape, patients: Patients, rho: float, factor: float, random: Random, *, assumed: float | None = None
) -> PrivateNewton:
    """All rounds. `assumed`: the variance's factor that the fit reckons with, if it is another than what is added."""
    stds = [math.sqrt(factor / (2 * rho * share)) for share in ROUND_SHARES]
    told = stds if assumed is None else [math.sqrt(assumed / (2 * rho * share)) for share in ROUND_SHARES]
    newton = PrivateNewton(shape, tuple(told))
    while not newton.done:
        total = vectors(shape, newton.question, patients).sum(axis=0)
        newton.update(total + random.normal(0.0, stds[newton.index], len(total)))
    return newton


def norm_bound(shape: Shape) -> float:
    """Greatest length of a row of the design, by the schema."""
    return math.sqrt(1 + len(shape.numbers) + shape.n_categorical)


def noisy_gradients(
    shape: Shape, patients: Patients, rho: float, factor: float, random: Random
) -> tuple[Floats, Floats]:
    """Ten gradient steps on the schema's scale, preconditioned by what the bounds say of the curvature."""
    x, y, length, n_rounds = patients.x, patients.y, norm_bound(shape), 10
    family = Residuals(shape.kind, most=shape.response.high, sd=1.0, reach=1.0)
    clip = length * {"logistic": 1.0, "linear": 1.0, "poisson": 4.0}[shape.kind]
    beta, trail = np.zeros(x.shape[1]), []
    for _ in range(n_rounds):
        mean, _ = family.moments(x @ beta)
        parts = x * (y - mean)[:, None]
        parts *= np.minimum(1, clip / np.maximum(np.linalg.norm(parts, axis=1), 1e-12))[:, None]
        noisy = parts.sum(axis=0) + random.normal(0, clip * math.sqrt(factor * n_rounds / (2 * rho)), x.shape[1])
        curvature = len(y) * {"logistic": 0.25, "linear": 1.0, "poisson": 2.0}[shape.kind]
        # No eigenvalue of the design's second moments is above about half their trace's bound.
        beta = beta + noisy / (curvature * length**2 / 3)
        trail.append(beta)
    out = np.mean(trail[-3:], axis=0)
    return out, np.full(len(out), math.nan)


def moments_once(shape: Shape, patients: Patients, rho: float, factor: float, random: Random) -> tuple[Floats, Floats]:
    """X'X and X'y once, on the schema's scale: the likelihood's expansion to second degree at 0."""
    x, y, p, length = patients.x, patients.y, shape.p, norm_bound(shape)
    match shape.kind:
        case "logistic":
            residual, curvature, largest = y - 0.5, 0.25, 0.5
        case "linear":
            residual, curvature, largest = y, 1.0, 1.0
        case "poisson":
            # Expanded at a mean of 2, which the outcome's bounds suggest; beta_0 is log 2.
            residual, curvature, largest = np.clip(y - 2, -10, 10), 2.0, 10.0
    score_noise = largest * length * math.sqrt(factor / (2 * rho * 0.6))
    information_noise = curvature * length**2 * math.sqrt(factor / (2 * rho * 0.4))
    noise = np.triu(random.normal(0, information_noise, (p, p)))
    noise = np.where(np.eye(p) > 0, noise, noise / math.sqrt(2))
    opened = Opened(
        score=x.T @ residual + random.normal(0, score_noise, p),
        information=curvature * x.T @ x + noise + np.triu(noise, 1).T,
        score_noise=np.full(p, score_noise),
        information_noise=information_noise,
    )
    prior = np.full(p, 0.25)
    prior[0] = 1e-4
    found = posterior(opened, np.zeros(p), prior, 0.1 if shape.kind == "linear" else 1.0)
    beta = found.step.copy()
    beta[0] += math.log(2) if shape.kind == "poisson" else 0.0
    return beta, np.sqrt(np.diag(found.covariance))


def newton_on_bounds(
    shape: Shape, patients: Patients, rho: float, factor: float, random: Random
) -> tuple[Floats, Floats]:
    """Noisy information once and two noisy scores, on the schema's scale, with the noise-aware step."""
    x, y, p, length = patients.x, patients.y, shape.p, norm_bound(shape)
    reach = {"logistic": 1.0, "linear": 1.0, "poisson": 10.0}[shape.kind]
    family = Residuals(shape.kind, most=shape.response.high, sd=1.0, reach=1.0)
    beta = np.zeros(p)
    beta[0] = math.log(2) if shape.kind == "poisson" else 0.0
    information = np.zeros((p, p))
    for index, share in enumerate((0.4, 0.6)):
        mean, variance = family.moments(x @ beta)
        of_information = 0.4 if index == 0 else 0.0
        score_noise = reach * length * math.sqrt(factor / (2 * rho * share * (1 - of_information)))
        if index == 0:
            largest = {"logistic": 0.25, "linear": 1.0, "poisson": 2.0}[shape.kind]
            information_noise = largest * length**2 * math.sqrt(factor / (2 * rho * share * of_information))
            noise = np.triu(random.normal(0, information_noise, (p, p)))
            noise = np.where(np.eye(p) > 0, noise, noise / math.sqrt(2))
            information = (x * variance[:, None]).T @ x + noise + np.triu(noise, 1).T
        score = x.T @ np.clip(y - mean, -reach, reach) + random.normal(0, score_noise, p)
        prior = np.full(p, 0.25)
        prior[0] = 1e-4
        found = posterior(
            Opened(score, information, np.full(p, score_noise), information_noise),
            beta,
            prior,
            0.1 if shape.kind == "linear" else 1.0,
        )
        beta = beta + np.clip(found.step, -3, 3)
    return beta, np.sqrt(np.diag(found.covariance))


def objective_of_curator(shape: Shape, patients: Patients, epsilon: float, random: Random) -> tuple[Floats, Floats]:
    """Objective perturbation of a trusted curator (Kifer, Smith, Thakurta 2012); logistic only.

    Its exact minimiser cannot be found from sums that are opened with noise: for comparison alone.
    """
    x, y, length, p = patients.x, patients.y, norm_bound(shape), shape.p
    ridge = 2 * 0.25 * length**2 / epsilon
    push = random.normal(0, length * math.sqrt(8 * math.log(2 / DELTA) + 4 * epsilon) / epsilon, p)
    beta = np.zeros(p)
    for _ in range(60):
        mean = 0.5 * (1 + np.tanh(0.5 * x @ beta))
        information = (x * (mean * (1 - mean))[:, None]).T @ x + ridge * np.eye(p)
        beta = beta + np.linalg.solve(information, x.T @ (y - mean) - ridge * beta - push)
    return beta, np.full(p, math.nan)


WAYS: dict[str, Way] = {
    "rounds": ours,
    "moments once": moments_once,
    "information once": newton_on_bounds,
    "gradients": noisy_gradients,
}


# --- what is printed --------------------------------------------------------------------------------------------------


def tables(random: Random) -> Iterator[tuple[str, Callable[[], tuple[Shape, Patients]]]]:
    """Yield the tables of the comparison."""
    leukaemia_table, rossi_table = leukaemia(), rossi()
    yield "LeukSurv, n = 1,043, logistic", lambda: leukaemia_table
    yield "rossi, n = 432, logistic", lambda: rossi_table
    for kind in ("logistic", "linear", "poisson"):
        for n in (200, 1000, 5000, 20000):
            yield f"made up, n = {n:,}, {kind}", lambda kind=kind, n=n: made_up(kind, n, random)[:2]  # type: ignore[misc]


def median_error(
    make: Callable[[], tuple[Shape, Patients]], fit: Callable[[Shape, Patients], tuple[Floats, Floats]], n_runs: int
) -> tuple[float, int]:
    """Return the root mean square over coefficients of the median error, and how many runs failed."""
    errors, failed = [], 0
    for _ in range(n_runs):
        shape, patients = make()
        beta, std_error = pooled(shape, patients)
        try:
            errors.append(np.abs(fit(shape, patients)[0] - beta) / std_error)
        except ModelFailed:
            failed += 1
    if len(errors) < n_runs / 2:
        return math.nan, failed
    return float(np.sqrt((np.median(errors, axis=0) ** 2).mean())) / 0.6745, failed


def print_errors(n_runs: int = 60) -> None:
    """Print the ways beside each other."""
    random = np.random.default_rng(1)
    print("| table | epsilon | " + " | ".join(WAYS) + " | objective, curator | failed |")
    print("|---|" + "---|" * (len(WAYS) + 3))
    for name, make in tables(random):
        for epsilon in (0.5, 1.0, 3.0, 10.0):
            rho = epsilon_to_rho(epsilon, DELTA)
            cells, failed = [], 0
            for way, fit in WAYS.items():
                error, lost = median_error(make, lambda s, d, fit=fit: fit(s, d, rho, JOINT, random), n_runs)  # type: ignore[misc]  # noqa: B023
                failed = lost if way == "rounds" else failed
                cells.append(f"{error:.2f}")
            error = math.nan
            if "logistic" in name:
                error, _ = median_error(make, lambda s, d: objective_of_curator(s, d, epsilon, random), n_runs)  # noqa: B023
            cells.append("" if math.isnan(error) else f"{error:.2f}")
            print(f"| {name} | {epsilon:g} | {' | '.join(cells)} | {failed}/{n_runs} |", flush=True)


def coverage_of(kind: Kind, n: int, epsilon: float, n_runs: int, random: Random) -> dict[str, float]:
    """Return the coverage of intervals with and without the noise reckoned with, and how wide they are."""
    rho = epsilon_to_rho(epsilon, DELTA)
    aware, naive, width, failed = [], [], [], 0
    for _ in range(n_runs):
        shape, patients, truth = made_up(kind, n, random)
        _, plain = pooled(shape, patients)
        try:
            newton = rounds_with_noise(shape, patients, rho, JOINT, random)
            beta, covariance = newton.on_bounds_scale()
        except ModelFailed:
            failed += 1
            continue
        error, own = np.sqrt(np.diag(covariance)), np.sqrt(np.diag(newton.sampling_on_bounds_scale()))
        aware.append(np.abs(beta - truth) <= 1.96 * error)
        naive.append(np.abs(beta - truth) <= 1.96 * np.minimum(own, error))
        width.append(error / plain)
    if not aware:
        return {"failed": failed}
    worst = np.mean(aware, axis=0)
    return {
        "aware": float(np.mean(aware)),
        "least": float(worst.min()),
        "naive": float(np.mean(naive)),
        "width": float(np.mean(width)),
        "failed": failed,
    }


def print_coverage(n_runs: int = 200) -> None:
    """Print the coverage of 95 % intervals."""
    print("| family | n | epsilon | coverage | least of a coefficient | without reckoning noise | width | failed |")
    print("|---|---|---|---|---|---|---|---|")
    for seed, kind in enumerate(("logistic", "linear", "poisson")):
        if len(sys.argv) > 2 and kind not in sys.argv[2:]:
            continue
        random = np.random.default_rng((2, seed))
        for n in (200, 1000, 5000, 20000):
            for epsilon in (0.5, 1.0, 3.0, 10.0):
                runs = n_runs if n < 20000 else n_runs // 2
                found = coverage_of(kind, n, epsilon, runs, random)  # type: ignore[arg-type]
                shown = " | ".join(f"{found[key]:.1%}" if key in found else "" for key in ("aware", "least", "naive"))
                width = f"{found['width']:.2f}" if "width" in found else ""
                print(f"| {kind} | {n:,} | {epsilon:g} | {shown} | {width} | {found['failed']:.0f} |", flush=True)


def print_central(n_runs: int = 200) -> None:
    """Print errors with the noise of one curator, and of three parties of which one, or two, may collude."""
    random = np.random.default_rng(3)
    print("| table | epsilon | one curator | 3 parties, 1 colludes | ratio | 3 parties, 2 collude | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name, make in tables(random):
        if not name.startswith(("LeukSurv", "made up, n = 1,000", "made up, n = 5,000")):
            continue
        for epsilon in (1.0, 3.0):
            rho = epsilon_to_rho(epsilon, DELTA)
            one, two, three = (
                median_error(make, lambda s, d, f=f: ours(s, d, rho, f, random), n_runs)[0]  # type: ignore[misc]  # noqa: B023
                for f in (1.0, 1.5, 3.0)
            )
            print(
                f"| {name} | {epsilon:g} | {one:.2f} | {two:.2f} | {two / one:.2f} | {three:.2f} | {three / one:.2f} |",
                flush=True,
            )


def print_hard(n_runs: int = 100) -> None:
    """Print the coverage of 95 % intervals on awkward tables."""
    random = np.random.default_rng(5)
    print("| table | n = 1,000, epsilon 3 | n = 5,000, epsilon 1 | n = 5,000, epsilon 5 |")
    print("|---|---|---|---|")
    for title, name in HARD.items():
        cells = []
        for n, epsilon in ((1000, 3.0), (5000, 1.0), (5000, 5.0)):
            rho, inside = epsilon_to_rho(epsilon, DELTA), []
            for _ in range(n_runs):
                shape, patients, truth = hard(name, n, random)
                try:
                    beta, std_error = ours(shape, patients, rho, JOINT, random)
                except ModelFailed:
                    continue
                inside.append(np.abs(beta - truth) <= 1.96 * std_error)
            cells.append(f"{np.mean(inside):.1%} ({np.mean(inside, axis=0).min():.0%})" if inside else "failed")
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


def print_predictions(n_runs: int = 40) -> None:
    """Print how far predicted means are from those of the fit without privacy, and how far those spread."""
    random = np.random.default_rng(4)
    print("| table | epsilon | root mean square difference | spread of the means | failed |")
    print("|---|---|---|---|---|")
    for name, make in tables(random):
        if "n = 200," in name or "20,000" in name:
            continue
        for epsilon in (0.5, 1.0, 3.0, 10.0):
            rho, apart, spread, failed = epsilon_to_rho(epsilon, DELTA), [], [], 0
            for _ in range(n_runs):
                shape, patients = make()
                family = Residuals(shape.kind, most=shape.response.high, sd=1.0, reach=1.0)
                plain = family.moments(patients.x @ pooled(shape, patients)[0])[0]
                try:
                    found = family.moments(patients.x @ ours(shape, patients, rho, JOINT, random)[0])[0]
                except ModelFailed:
                    failed += 1
                    continue
                apart.append(math.sqrt(float(((found - plain) ** 2).mean())))
                spread.append(float(plain.std()))
            print(
                f"| {name} | {epsilon:g} | {np.median(apart):.3f} | {np.median(spread):.3f} | {failed}/{n_runs} |",
                flush=True,
            )


if __name__ == "__main__":
    np.seterr(over="ignore")
    {
        "error": print_errors,
        "coverage": print_coverage,
        "central": print_central,
        "predictions": print_predictions,
        "hard": print_hard,
    }[sys.argv[1]]()
