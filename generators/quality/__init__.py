"""How near a synthetic table is to a real one, what it is good for, and whom it gives away. INTERNAL on real rows.

compare_marginals, workload_error    distances of marginals
kaplan_meier                         survival curves
"""

from generators.quality.distances import MarginalComparison, compare_marginals, kaplan_meier, workload_error

__all__ = ["MarginalComparison", "compare_marginals", "kaplan_meier", "workload_error"]
