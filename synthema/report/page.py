"""The frame that both reports share: their templates, their style sheet and their ways to write numbers."""

from __future__ import annotations

from typing import Any

from privacy import _formats as formats
from privacy._pages import Pages

_FILTERS = (
    formats.bound_above,
    formats.bound_below,
    formats.count,
    formats.data_size,
    formats.decimal,
    formats.listing,
    formats.one_in,
    formats.p_value,
    formats.percent,
    formats.power_of_ten,
    formats.ratio,
)
_PAGES: Pages = Pages(
    "synthema.report", lambda: _PAGES.read("report.css"), {function.__name__: function for function in _FILTERS}
)


def render(template: str, **values: Any) -> str:
    """Return the page that a template of this package makes of the values; every string is escaped."""
    return _PAGES.render(template, **values)
