"""The exponential mechanism on integer scores: `privacy.mechanisms`' two forms, under the names that generators use."""

from __future__ import annotations

from privacy.mechanisms.lazy_selection import lazy_exponential_mechanism
from privacy.mechanisms.selection import exponential_mechanism

__all__ = ["exponential_mechanism", "lazy_exponential_mechanism"]
