"""Joint models over hospitals whose rows stay where they are: estimators, and the kinds of models behind them.

`from synthema.learning import KaplanMeier`: see `estimator` for how they are fitted, `model` for what a kind is.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthema.learning.curves import AalenJohansen as AalenJohansen
    from synthema.learning.curves import KaplanMeier as KaplanMeier
    from synthema.learning.curves import NelsonAalen as NelsonAalen
    from synthema.learning.log_rank_model import LogRank as LogRank

# Imported when they are asked for: a study's own modules import parts of this package.
_ESTIMATORS = {
    "AalenJohansen": "curves",
    "KaplanMeier": "curves",
    "LogRank": "log_rank_model",
    "NelsonAalen": "curves",
}

__all__ = ["AalenJohansen", "KaplanMeier", "LogRank", "NelsonAalen"]


def __getattr__(name: str) -> Any:
    if name not in _ESTIMATORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ESTIMATORS[name]}"), name)
