"""What risk a table carries: figures of re-identification, before and after it is anonymised.

`assess_risk` counts; everything here is INTERNAL to the site that holds the table.
"""

from anonymise.risk.assess import assess_risk
from anonymise.risk.figures import RISK_THRESHOLDS, ColumnRisk, ModelCheck, RiskReport, SizeShare
from anonymise.risk.finder import ColumnSet, QuasiIdentifiers, find_quasi_identifiers
from anonymise.risk.journalist import JournalistRisk
from anonymise.risk.levels import SensitiveRisk

__all__ = [
    "RISK_THRESHOLDS",
    "ColumnRisk",
    "ColumnSet",
    "JournalistRisk",
    "ModelCheck",
    "QuasiIdentifiers",
    "RiskReport",
    "SensitiveRisk",
    "SizeShare",
    "assess_risk",
    "find_quasi_identifiers",
]
