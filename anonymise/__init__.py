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

from anonymise.ages import cap_ages, hide_births_of_oldest
from anonymise.date_shift import patient_shifts, possible_shifts, shift_dates, shifted_bounds
from anonymise.encoded import Encoded, encode_table
from anonymise.errors import (
    AnonymiseError,
    AttackableRelease,
    GuaranteeBroken,
    HierarchyError,
    LatticeTooLarge,
    NotAnonymisable,
    TimeLimitReached,
    TokenRejected,
)
from anonymise.hierarchies import Hierarchy, build_hierarchy
from anonymise.histories import patient_class_sizes
from anonymise.keys import KeyDomain, KeyRing, PseudonymKey
from anonymise.lattice import Progress
from anonymise.longitudinal import first_visits
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
from anonymise.pseudonyms import pseudonym_buckets, pseudonymise, rotate_pseudonyms, rotation_table
from anonymise.quality import Measure, measure_quality
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
from anonymise.tokens import decrypt_ids, encrypt_ids, reencrypt_ids
from anonymise.wp29 import Wp29Result, measure_wp29
from privacy.schema import Schema

__all__ = [
    "AlphaKAnonymity",
    "AnonymiseError",
    "AttackFigure",
    "AttackableRelease",
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
    "KeyDomain",
    "KeyRing",
    "LDiversity",
    "LatticeTooLarge",
    "Measure",
    "Model",
    "NotAnonymisable",
    "PopulationUniqueness",
    "Progress",
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
    "TimeLimitReached",
    "TokenRejected",
    "Wp29Result",
    "anonymise",
    "assess_risk",
    "build_hierarchy",
    "cap_ages",
    "check_policy_0070",
    "check_safe_harbor",
    "decrypt_ids",
    "encode_table",
    "encrypt_ids",
    "find_quasi_identifiers",
    "first_visits",
    "hide_births_of_oldest",
    "measure_quality",
    "measure_wp29",
    "patient_class_sizes",
    "patient_shifts",
    "population_uniqueness",
    "possible_shifts",
    "pseudonym_buckets",
    "pseudonymise",
    "reencrypt_ids",
    "report_risk",
    "rotate_pseudonyms",
    "rotation_table",
    "shift_dates",
    "shifted_bounds",
]
