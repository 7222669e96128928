"""What risk a table carries: figures of re-identification, before and after it is anonymised.

`assess_risk` counts; everything here is INTERNAL to the site that holds the table.
"""

from anonymise.risk.assess import assess_risk
from anonymise.risk.figures import RISK_THRESHOLDS, ColumnRisk, ModelCheck, RiskReport, SizeShare
from anonymise.risk.finder import ColumnSet, QuasiIdentifiers, find_quasi_identifiers
from anonymise.risk.journalist import JournalistRisk
from anonymise.risk.levels import SensitiveRisk
from anonymise.risk.safe_harbor import Finding, check_policy_0070, check_safe_harbor

__all__ = [
    "RISK_THRESHOLDS",
    "ColumnRisk",
    "ColumnSet",
    "Finding",
    "JournalistRisk",
    "ModelCheck",
    "QuasiIdentifiers",
    "RiskReport",
    "SensitiveRisk",
    "SizeShare",
    "assess_risk",
    "check_policy_0070",
    "check_safe_harbor",
    "find_quasi_identifiers",
]
