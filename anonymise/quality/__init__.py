"""Quality metrics: how much a release has lost, by name, each with bounds that prove an optimum.

name                    what is lost
loss                    how many values each released value stands for, mean over columns (ARX's Loss)
loss_geometric          the same, geometric mean over columns (ARX's default)
precision               how far up its hierarchy each value was moved
entropy                 bits of each value, were all values equally frequent, as a share (uniform)
non_uniform_entropy     bits of each value, given how frequent it is
discernibility          how many rows each row cannot be told from
average_class_size      rows per class
kl_divergence           bits between the table that the release suggests and the raw one
classification          rows whose target value their class does not predict

Definitions, proofs and sources are in the modules.
"""

from anonymise.quality.base import NodeClasses, Problem, Quality, column_weights
from anonymise.quality.measure import Measure, measure_quality
from anonymise.quality.registry import QUALITIES, Entry, QualityName

__all__ = [
    "QUALITIES",
    "Entry",
    "Measure",
    "NodeClasses",
    "Problem",
    "Quality",
    "QualityName",
    "column_weights",
    "measure_quality",
]
