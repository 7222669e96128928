"""Tables without people: k-anonymity with a proven optimum, the risk that is left, and keyed pseudonyms.

A schema says which columns an outsider may know (quasi-identifiers) and how they generalise; models say how large a
crowd each patient must stand in; the search finds the combination of levels that loses least, and proves it.

>>> import pandas as pd
>>> from anonymise import KAnonymity, Schema, anonymise, assess_risk
>>> schema = Schema.from_dict({"columns": {
...     "age": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 99], "hierarchy": {"interval": [10, 50]}},
...     "genotype": {"role": "sensitive", "categories": ["HbSS", "HbSC"]},
... }})
>>> frame = pd.DataFrame({"age": [21, 24, 27, 52, 58], "genotype": ["HbSS", "HbSC", "HbSS", "HbSS", "HbSC"]})
>>> assess_risk(frame, schema).max_prosecutor_risk
1.0
>>> result = anonymise(frame, schema, models=[KAnonymity(2)])
>>> assess_risk(result.table, schema).max_prosecutor_risk
0.5
"""

from anonymise.encoded import Encoded, encode_table
from anonymise.errors import AnonymiseError, GuaranteeBroken, HierarchyError, LatticeTooLarge, NotAnonymisable
from anonymise.hierarchies import Hierarchy, build_hierarchy
from anonymise.models import (
    AlphaKAnonymity,
    AverageRisk,
    BetaLikeness,
    DeltaDisclosure,
    DeltaPresence,
    KAnonymity,
    KMap,
    LDiversity,
    Model,
    PopulationUniqueness,
    SampleUniqueness,
    TableModel,
    TCloseness,
)
from anonymise.population import Estimate, population_uniqueness
from anonymise.pseudonyms import PseudonymKey, pseudonym_buckets, pseudonymise
from anonymise.release import Result, anonymise
from anonymise.report import AttackFigure, ReleaseContext, RiskDocument, report_risk
from anonymise.risk import (
    Finding,
    QuasiIdentifiers,
    RiskReport,
    assess_risk,
    check_policy_0070,
    check_safe_harbor,
    find_quasi_identifiers,
)
from privacy.schema import Schema

__all__ = [
    "AlphaKAnonymity",
    "AnonymiseError",
    "AttackFigure",
    "AverageRisk",
    "BetaLikeness",
    "DeltaDisclosure",
    "DeltaPresence",
    "Encoded",
    "Estimate",
    "Finding",
    "GuaranteeBroken",
    "Hierarchy",
    "HierarchyError",
    "KAnonymity",
    "KMap",
    "LDiversity",
    "LatticeTooLarge",
    "Model",
    "NotAnonymisable",
    "PopulationUniqueness",
    "PseudonymKey",
    "QuasiIdentifiers",
    "ReleaseContext",
    "Result",
    "RiskDocument",
    "RiskReport",
    "SampleUniqueness",
    "Schema",
    "TCloseness",
    "TableModel",
    "anonymise",
    "assess_risk",
    "build_hierarchy",
    "check_policy_0070",
    "check_safe_harbor",
    "encode_table",
    "find_quasi_identifiers",
    "population_uniqueness",
    "pseudonym_buckets",
    "pseudonymise",
    "report_risk",
]
