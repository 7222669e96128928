"""Reports as one HTML file each: templates, style sheet, and a policy that allows nothing from elsewhere.

A page opens from a file behind a hospital's firewall and is mailed around, so it holds all it needs: no script, no
font, no picture from another address. The content security policy names the one style sheet by its hash; a style or
script that slipped in through data would not run even if it escaped escaping.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from privacy._formats import clean


def shared_css() -> str:
    """Return the style sheet that reports share."""
    return (resources.files("privacy") / "_page.css").read_text(encoding="utf-8")


class Pages:
    """The pages of one package: templates in its folder `templates`, one style sheet, and filters.

    Every string that is no finished markup is escaped; an unknown name in a template is an error.
    """

    def __init__(self, package: str, css: Callable[[], str], filters: Mapping[str, Callable[..., Any]]) -> None:
        self._package = package
        self._css = css
        self._filters = filters

    def read(self, name: str) -> str:
        """Return a file of the package's templates."""
        return (resources.files(self._package) / "templates" / name).read_text(encoding="utf-8")

    def render(self, template: str, **values: Any) -> str:
        """Return the page that a template makes of the values."""
        css, policy = self._style
        return self._environment.get_template(template).render(css=css, policy=policy, **values)

    @cached_property
    def _style(self) -> tuple[Markup, str]:
        css = self._css()
        digest = base64.b64encode(hashlib.sha256(css.encode("utf-8")).digest()).decode("ascii")
        policy = (
            f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'; "
            "script-src 'none'"
        )
        return Markup(css), policy  # noqa: S704 - files of this project

    @cached_property
    def _environment(self) -> jinja2.Environment:
        environment = jinja2.Environment(
            loader=jinja2.FunctionLoader(self.read),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            finalize=clean,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters.update(self._filters)
        return environment
