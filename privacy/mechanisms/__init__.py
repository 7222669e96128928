"""Releases of integer answers: each returns (answer, event), the event being what it cost.

Counts, histograms, sums, means, quantiles, choices, and histograms of unknown domain. Everything private is an
integer, noise and choices are exactly of the stated law, contributions of a patient are bounded before anything is
counted, and the caller names the neighbour relation.

>>> from privacy import ZcdpAccountant
>>> answer, event = noisy_count([1, 0, 1, 1], neighbours="add_remove_one", rho=0.05)
>>> accountant = ZcdpAccountant(neighbours="add_remove_one")
>>> accountant.compose(event)
>>> accountant.rho <= 0.05
True
"""

from privacy.mechanisms.choices import noisy_max, noisy_quantile, noisy_top_k
from privacy.mechanisms.counts import noisy_count, noisy_histogram
from privacy.mechanisms.lazy_selection import lazy_exponential_mechanism
from privacy.mechanisms.selection import exponential_mechanism, permute_and_flip
from privacy.mechanisms.sums import noisy_mean, noisy_sum, to_fixed_point
from privacy.mechanisms.unknown_domain import release_threshold, thresholded_histogram

__all__ = [
    "exponential_mechanism",
    "lazy_exponential_mechanism",
    "noisy_count",
    "noisy_histogram",
    "noisy_max",
    "noisy_mean",
    "noisy_quantile",
    "noisy_sum",
    "noisy_top_k",
    "permute_and_flip",
    "release_threshold",
    "thresholded_histogram",
    "to_fixed_point",
]
