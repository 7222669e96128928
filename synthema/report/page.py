"""The frame that both reports share: templates, style sheet, and a policy that allows nothing from elsewhere.

A page opens from a file behind a hospital's firewall and is mailed around, so it holds all it needs: no script, no
font, no picture from another address. The content security policy names the one style sheet by its hash; a style
or script that slipped in through data would not run even if it escaped escaping.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from privacy import _formats as formats

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


def render(template: str, **values: Any) -> str:
    """Return the page that a template of this package makes of the values; every string is escaped."""
    css, policy = _style()
    return _environment().get_template(template).render(css=css, policy=policy, **values)


@functools.cache
def _style() -> tuple[Markup, str]:
    css = _read("report.css")
    digest = base64.b64encode(hashlib.sha256(css.encode("utf-8")).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'; "
        "script-src 'none'"
    )
    return Markup(css), policy  # noqa: S704 - a file of this package


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=formats.clean,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update({function.__name__: function for function in _FILTERS})
    return environment


def _read(name: str) -> str:
    return (resources.files("synthema.report") / "templates" / name).read_text(encoding="utf-8")
