"""What the benchmarks of secure computation run: coroutines of a session, each with inputs that are shared already."""

from __future__ import annotations

import numpy as np

from smpc import Session, exponential_choice, noisy_argmax

N_PRODUCTS = 1_000_000
N_COMPARISONS = 100_000
N_CANDIDATES = 1_000
MATRIX = 512
FRAC_BITS = 16
N_RECORDS, N_FEATURES, BATCH = 10_000, 50, 100
# The step of the descent, for the mean over a batch: 2^-LOG_STEP times the sum over it.
LOG_STEP = 7
MOST_WEIGHT = 4.0


async def sum_of_million(s: Session, x):
    return await s.open((await s.input(x["integers"]))[0] + x["shared"][0])


async def product_of_million(s: Session, x):
    a, b = x["shared"]
    return await s.open(await s.mul(a, b))


async def matrix_product(s: Session, x):
    a, b = x["matrices"]
    return await s.open(await s.matmul(a, b))


async def comparisons(s: Session, x):
    a, b = x["words"]
    return await s.open(await s.less(a, b))


async def largest(s: Session, x):
    return await s.open(await s.argmax(x["candidates"]))


async def logistic_epoch(s: Session, x):
    return await s.open(await logistic_descent(s, *x["records"]))


async def logistic_epoch_stochastic(s: Session, x):
    """As `logistic_epoch`, with every rounding in one round."""
    before, s.truncation = s.truncation, "stochastic"
    try:
        return await logistic_epoch(s, x)
    finally:
        s.truncation = before


async def logistic_descent(s: Session, x, y):
    """Return the weights of a logistic regression after one pass over the records in batches.

    The weights have LOG_STEP fractional bits more than the records, so that the step costs no rounding. The declared
    range of the linear predictor is that of all features and weights at their ends, 200: far beyond where the sigmoid
    is 0 or 1, which is compared for.
    """
    weights = s.shared(np.zeros((x.shape[1], 1), dtype=np.uint64), bound=0, frac_bits=FRAC_BITS + LOG_STEP)
    for start in range(0, len(x), BATCH):
        batch = x[start : start + BATCH]
        probability = await s.sigmoid(await s.matmul(batch, weights), frac_bits=FRAC_BITS)
        gradient = await s.matmul(batch.T, probability - y[start : start + BATCH])
        weights = (weights - gradient.ldexp(-LOG_STEP)).declare(MOST_WEIGHT)
    return weights


async def noisy_largest(s: Session, x):
    index, _ = await noisy_argmax(s, x["candidates"], sensitivity=1, epsilon=0.1)
    return await s.open(index)


async def exponential_largest(s: Session, x):
    index, _ = await exponential_choice(s, x["candidates"], sensitivity=1, epsilon=0.1)
    return await s.open(index)


TASKS = {
    "sum of 1e6": sum_of_million,
    "product of 1e6": product_of_million,
    "matrix product 512": matrix_product,
    "1e5 comparisons": comparisons,
    "arg max of 1,000": largest,
    "logistic epoch": logistic_epoch,
    "noisy arg max of 1,000": noisy_largest,
    "choice of 1,000": exponential_largest,
    "logistic epoch, stochastic rounding": logistic_epoch_stochastic,
}


def shared_inputs(s: Session, seed: int) -> dict:
    """Return shares that add up to numbers of the declared ranges: party 0 holds them, masked by common randomness."""
    rng = np.random.default_rng(seed)

    def split(values: np.ndarray, **declared: int):
        words = values.astype(np.int64).view(np.uint64)
        masks = [rng.integers(0, 2**64, values.shape, dtype=np.uint64) for _ in range(s.n_parties - 1)]
        rest = words - sum(masks, start=np.zeros_like(words))
        return s.shared([rest, *masks][s.party], **declared)

    integers = rng.integers(-(2**40), 2**40, N_PRODUCTS)
    return {
        "integers": integers,
        "shared": [split(rng.integers(-(2**31), 2**31, N_PRODUCTS)) for _ in range(2)],
        "matrices": [
            split(rng.integers(-(2**16), 2**16, (MATRIX, MATRIX)), bound=2**16, frac_bits=FRAC_BITS) for _ in range(2)
        ],
        "words": [split(rng.integers(-(2**61), 2**61, N_COMPARISONS), bound=2**61) for _ in range(2)],
        "records": records(split, rng),
        "candidates": split(rng.integers(-(2**30), 2**30, N_CANDIDATES), bound=2**30),
    }


def records(split, rng):
    """Return features in [-1, 1] and outcomes that follow a logistic model, shared."""
    features = rng.uniform(-1, 1, (N_RECORDS, N_FEATURES))
    effects = rng.normal(0, 1, (N_FEATURES, 1))
    outcomes = rng.uniform(size=(N_RECORDS, 1)) < 1 / (1 + np.exp(-features @ effects))
    return [
        split(np.rint(values * 2**FRAC_BITS), bound=2**FRAC_BITS, frac_bits=FRAC_BITS)
        for values in (features, outcomes.astype(float))
    ]
