"""Joint models over hospitals whose rows stay where they are: estimators, and the kinds of models behind them.

`from synthema.learning import KaplanMeier`: see `estimator` for how they are fitted, `model` for what a kind is.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthema.learning.boosting import GradientBoosting as GradientBoosting
    from synthema.learning.cox import CoxRegression as CoxRegression
    from synthema.learning.curves import AalenJohansen as AalenJohansen
    from synthema.learning.curves import KaplanMeier as KaplanMeier
    from synthema.learning.curves import NelsonAalen as NelsonAalen
    from synthema.learning.kmeans import KMeans as KMeans
    from synthema.learning.log_rank_model import LogRank as LogRank
    from synthema.learning.regression import LinearRegression as LinearRegression
    from synthema.learning.regression import LogisticRegression as LogisticRegression
    from synthema.learning.regression import PoissonRegression as PoissonRegression
    from synthema.learning.table_one import TableOne as TableOne

# Imported when they are asked for: a study's own modules import parts of this package.
_ESTIMATORS = {
    "AalenJohansen": "curves",
    "CoxRegression": "cox",
    "GradientBoosting": "boosting",
    "KMeans": "kmeans",
    "KaplanMeier": "curves",
    "LinearRegression": "regression",
    "LogRank": "log_rank_model",
    "LogisticRegression": "regression",
    "NelsonAalen": "curves",
    "PoissonRegression": "regression",
    "TableOne": "table_one",
}

__all__ = [
    "AalenJohansen",
    "CoxRegression",
    "GradientBoosting",
    "KMeans",
    "KaplanMeier",
    "LinearRegression",
    "LogRank",
    "LogisticRegression",
    "NelsonAalen",
    "PoissonRegression",
    "TableOne",
]


def __getattr__(name: str) -> Any:
    if name not in _ESTIMATORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ESTIMATORS[name]}"), name)
