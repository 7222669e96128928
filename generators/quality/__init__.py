"""How near a synthetic table is to a real one, what it is good for, and whom it gives away. INTERNAL on real rows.

evaluate                             all of it, as a report: JSON for scripts, one HTML page for people
compare_marginals, workload_error    distances of marginals
kaplan_meier                         survival curves
"""

from generators.quality.distances import MarginalComparison, compare_marginals, workload_error
from generators.quality.evaluation import evaluate
from generators.quality.report import Report
from generators.quality.rulers import Figure
from generators.survival import kaplan_meier

__all__ = [
    "Figure",
    "MarginalComparison",
    "Report",
    "compare_marginals",
    "evaluate",
    "kaplan_meier",
    "workload_error",
]
