"""Can the two tables be told apart? The propensity score, its mean squared error, and what chance would give.

c          share of synthetic rows among all N rows
p_i        fitted probability that row i is synthetic: logistic regression on groups of each column and of each pair
k - 1      number of independent features
pMSE       mean_i (p_i - c)^2, in [0, c (1 - c)]; 0 if no row looks more synthetic than another
null       if the synthetic rows were drawn from the real ones, N pMSE / (c (1 - c)^2) would follow, for large N, a
           chi-squared law of k - 1 degrees of freedom: expected pMSE = (k - 1) c (1 - c)^2 / N, standard deviation
           sqrt(2 (k - 1)) c (1 - c)^2 / N. For other patients of the same population both are 1 / (1 - c) times larger.
Source: Snoke, Raab, Nowok, Dibben, Slavkovic 2018, J. R. Stat. Soc. A 181:663, section 3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from generators.domain import Domain
from generators.marginals import Codes
from generators.quality.features import FloatArray, Groups, indicators, products
from generators.quality.logistic import auc, expit, fit_logistic
from privacy.schema import Column

BINS = 20
_GROUPS = 6
# Most products of indicators, and about as many single ones.
_PRODUCTS = _INDICATORS = 160
# Small beside any group's size, so that it bounds coefficients of values that one table lacks and changes nothing else.
_RIDGE = 0.1


@dataclass(frozen=True, slots=True)
class Propensity:
    """How well rows of two tables are told apart.

    ratio            pMSE over its null expectation: about 1 if the synthetic rows are a resample of the real ones
    share_of_most    pMSE over c (1 - c): 0 = never told apart, 1 = always
    z                standardised: (pMSE - expectation) / standard deviation
    auc              chance that a random synthetic row gets a higher score than a random real one
    real, synthetic  rows by score in equal bins of [0, 1]
    """

    ratio: float
    share_of_most: float
    z: float
    auc: float
    n_features: int
    real: tuple[int, ...]
    synthetic: tuple[int, ...]


def propensity(
    real: Codes, other: Codes, domain: Domain, columns: Mapping[str, Column], *, rng: np.random.Generator
) -> Propensity:
    """Fit the propensity score of `other` against `real`. INTERNAL on real rows.

    `rng` chooses the pairs of columns if there are too many to take them all.
    """
    both = np.concatenate([real, other])
    X = _design(np.asfortranarray(both), domain, columns, rng)
    synthetic = np.arange(len(both)) >= len(real)
    p = expit(X @ fit_logistic(X, synthetic, ridge=_RIDGE, tolerance=1e-5))
    N, c = len(both), len(other) / len(both)
    pmse = float(np.mean((p - c) ** 2))
    features = _rank(X) - 1
    unit = c * (1 - c) ** 2 / N
    edges = np.linspace(0, 1, BINS + 1)
    return Propensity(
        ratio=pmse / (features * unit) if features else 0.0,
        share_of_most=pmse / (c * (1 - c)),
        z=(pmse - features * unit) / (math.sqrt(2 * features) * unit) if features else 0.0,
        auc=auc(p, synthetic),
        n_features=features,
        real=tuple(np.histogram(p[~synthetic], edges)[0].tolist()),
        synthetic=tuple(np.histogram(p[synthetic], edges)[0].tolist()),
    )


def _design(codes: Codes, domain: Domain, columns: Mapping[str, Column], rng: np.random.Generator) -> FloatArray:
    # Many columns have fewer groups each, so that a wide table costs no more than a clinical one.
    fine = Groups.of(codes, domain, columns, at_most=max(2, min(_GROUPS, 1 + _INDICATORS // len(domain))))
    main = indicators(fine.apply(codes), fine.sizes, range(len(domain)))
    pairs = list(itertools.combinations(range(len(domain)), 2))
    # Three groups have four products a pair, two have one.
    most = 3 if 4 * len(pairs) <= _PRODUCTS else 2
    if len(pairs) > _PRODUCTS:
        pairs = [pairs[i] for i in sorted(rng.choice(len(pairs), _PRODUCTS, replace=False).tolist())]
    coarse = Groups.of(codes, domain, columns, at_most=most)
    return np.concatenate([main, products(coarse.apply(codes), coarse.sizes, pairs)], axis=1)


def _rank(X: FloatArray) -> int:
    gram: npt.NDArray[np.float64] = X.T @ X
    scale = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    return int(np.linalg.matrix_rank(gram / np.outer(scale, scale), tol=1e-8 * len(gram), hermitian=True))
