"""Privacy models: what every equivalence class, or the release as a whole, must satisfy. One family a module."""

from anonymise.models.base import AnyModel, Model, TableModel
from anonymise.models.k_anonymity import KAnonymity
from anonymise.models.k_map import KMap
from anonymise.models.l_diversity import LDiversity
from anonymise.models.likeness import AlphaKAnonymity, BetaLikeness, DeltaDisclosure
from anonymise.models.presence import DeltaPresence
from anonymise.models.t_closeness import TCloseness
from anonymise.models.uniqueness import AverageRisk, PopulationUniqueness, SampleUniqueness

__all__ = [
    "AlphaKAnonymity",
    "AnyModel",
    "AverageRisk",
    "BetaLikeness",
    "DeltaDisclosure",
    "DeltaPresence",
    "KAnonymity",
    "KMap",
    "LDiversity",
    "Model",
    "PopulationUniqueness",
    "SampleUniqueness",
    "TCloseness",
    "TableModel",
]
