"""Synthetic patients from noisy marginals, with a differential privacy guarantee.

A mechanism asks an oracle for noisy marginals, fits a distribution to them, and returns a model that can be sampled,
saved and priced. The oracle may be one table, or stand for many sites that never show it a row.

Independent    1-way marginals only
ChowLiu        one release of all pairs, for any oracle
MST            private choice of pairs
AIM            private choice of marginals of up to three columns, round by round
PrivBayes      private choice of a network with several parents to a column
Adaptive       as AIM, but believes noise only as far as it must: the one to take if you don't know which

`plan` says, before anything is spent, what a budget buys.

>>> import pandas as pd
>>> schema = Schema.from_dict({"columns": {
...     "age": {"kind": "integer", "bounds": [0, 110], "edges": [40, 60, 80]},
...     "event": {"categories": ["0", "1"]}}})
>>> frame = pd.DataFrame({"age": [35, 50, 65, 70] * 250, "event": ["0", "0", "1", "1"] * 250})
>>> model = ChowLiu(epsilon=3.0, delta=1e-9).fit(frame, schema)
>>> table = model.sample(500)
>>> list(table.columns), len(table), model.edges
(['age', 'event'], 500, (('age', 'event'),))
>>> model.sample(20, given={"event": "1"})["event"].unique().tolist()
['1']
>>> estimate, std_error = model.marginal(["age"])
>>> copies = model.sample(1000, copies=20)
>>> died = combine([(copy["event"] == "1").mean() for copy in copies])
>>> bool(0.004 < died.std_error < 0.1), bool(died.low < died.estimate < died.high)
(True, True)
"""

from generators.adaptive import Adaptive
from generators.aim import AIM
from generators.binning import private_edges
from generators.capping import keep_records
from generators.chowliu import ChowLiu
from generators.combining import Combined, combine
from generators.domain import Clique, Domain
from generators.encoding import decode, encode
from generators.errors import (
    BudgetInvalid,
    DomainMismatch,
    GeneratorError,
    MarginalTooLarge,
    MissingLibrary,
    ModelFileInvalid,
    NoLikelyRow,
    TooManyRecords,
    UnknownColumn,
)
from generators.independent import Independent
from generators.levels import leaf_schema, private_leaves
from generators.marginals import count_marginal
from generators.model import GraphicalModel, MarginalEstimate
from generators.mst import MST
from generators.oracle import LocalTableOracle, MarginalOracle, Measurement
from generators.planning import Plan, plan
from generators.privbayes import PrivBayes
from generators.quality import MarginalComparison, Report, compare_marginals, evaluate, workload_error
from generators.sources import TableOracle
from generators.sql import SqlOracle
from generators.survival import (
    SurvivalDistance,
    compare_survival,
    cumulative_incidence,
    kaplan_meier,
    nelson_aalen,
)
from privacy import Schema

__all__ = [
    "AIM",
    "MST",
    "Adaptive",
    "BudgetInvalid",
    "ChowLiu",
    "Clique",
    "Combined",
    "Domain",
    "DomainMismatch",
    "GeneratorError",
    "GraphicalModel",
    "Independent",
    "LocalTableOracle",
    "MarginalComparison",
    "MarginalEstimate",
    "MarginalOracle",
    "MarginalTooLarge",
    "Measurement",
    "MissingLibrary",
    "ModelFileInvalid",
    "NoLikelyRow",
    "Plan",
    "PrivBayes",
    "Report",
    "Schema",
    "SqlOracle",
    "SurvivalDistance",
    "TableOracle",
    "TooManyRecords",
    "UnknownColumn",
    "combine",
    "compare_marginals",
    "compare_survival",
    "count_marginal",
    "cumulative_incidence",
    "decode",
    "encode",
    "evaluate",
    "kaplan_meier",
    "keep_records",
    "leaf_schema",
    "nelson_aalen",
    "plan",
    "private_edges",
    "private_leaves",
    "workload_error",
]
