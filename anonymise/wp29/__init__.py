"""The three criteria of WP29 Opinion 05/2014 - singling out, linkability, inference - measured by attacks on a release.

Everything here reads raw rows and is INTERNAL.
"""

from anonymise.wp29.measure import measure_wp29
from anonymise.wp29.results import Wp29Attack, Wp29Result

__all__ = ["Wp29Attack", "Wp29Result", "measure_wp29"]
