"""Drawing inline SVG as a string: elements, escaping, and axis ticks.

Every word that reaches a drawing is escaped here and nowhere else. Colours come from the page's style sheet by class
name, so that one drawing serves light, dark and print; no style attribute is written, because the page's content
security policy would drop it.
"""

from __future__ import annotations

import html
import math
from typing import Any

from markupsafe import Markup

from privacy._formats import clean, shorten

# Mean width of a character of a sans-serif face, in parts of the type size: enough to place and cut labels.
_CHARACTER_WIDTH = 0.6
TEXT_SIZE = 12.0


class Drawing:
    """One chart: a picture with a title and a description that a screen reader reads instead.

    key           a name that is unique on the page, from the program and never from data
    width, height in the units of everything added

    Examples
    --------
    >>> drawing = Drawing(10, 10, key="demo", title="A <b>", description="One line.")
    >>> drawing.line(0, 1, 10, 1, css="axis")
    >>> print(drawing.markup())
    <svg role="img" ... viewBox="0 0 10 10"...><title id="demo-title">A &lt;b&gt;</title>...
    """

    def __init__(self, width: float, height: float, *, key: str, title: str, description: str) -> None:
        self.width = width
        self.height = height
        self._key = key
        self._head = (
            f'<title id="{key}-title">{_escape(title)}</title><desc id="{key}-desc">{_escape(description)}</desc>'
        )
        self._parts: list[str] = []

    def line(self, x1: float, y1: float, x2: float, y2: float, *, css: str) -> None:
        """Add a straight line."""
        self._add("line", x1=x1, y1=y1, x2=x2, y2=y2, css=css)

    def rect(
        self, x: float, y: float, width: float, height: float, *, css: str, radius: float = 0, hint: str = ""
    ) -> None:
        """Add a rectangle. Negative sizes are drawn as nothing; `hint` shows under the pointer."""
        rounding: dict[str, Any] = {"rx": radius} if radius else {}
        self._add("rect", hint=hint, x=x, y=y, width=max(width, 0), height=max(height, 0), css=css, **rounding)

    def path(self, d: str, *, css: str) -> None:
        """Add a path."""
        self._add("path", d=d, css=css)

    def text(self, x: float, y: float, text: str, *, css: str = "", anchor: str = "start", fit: float = 0) -> None:
        """Add a label with its baseline at y; it is cut to `fit` units of width if that is given."""
        room = int(fit / (TEXT_SIZE * _CHARACTER_WIDTH)) if fit else len(text)
        shown = shorten(text, room)
        attributes: dict[str, Any] = {} if anchor == "start" else {"text_anchor": anchor}
        if css:
            attributes["css"] = css
        self._add("text", content=shown, hint=text if shown != text else "", x=x, y=y, **attributes)

    def slanted(self, x: float, y: float, text: str, *, css: str, fit: float) -> None:
        """Add a label that starts at (x, y) and runs down to the right, cut to `fit` units of length."""
        shown = shorten(text, int(fit / (TEXT_SIZE * _CHARACTER_WIDTH)))
        turn = f"rotate(40 {number(x)} {number(y)})"
        self._add("text", content=shown, hint=text if shown != text else "", x=x, y=y, css=css, transform=turn)

    def markup(self) -> Markup:
        """Return the finished element."""
        size = f'width="{number(self.width)}" height="{number(self.height)}"'
        return Markup(  # noqa: S704 - every text in it went through _escape
            f'<svg role="img" aria-labelledby="{self._key}-title {self._key}-desc" '
            f'viewBox="0 0 {number(self.width)} {number(self.height)}" {size}>'
            f"{self._head}{''.join(self._parts)}</svg>"
        )

    def _add(self, tag: str, *, content: str = "", hint: str = "", **attributes: float | str) -> None:
        written = "".join(
            f' {"class" if name == "css" else name.replace("_", "-")}="{_attribute(value)}"'
            for name, value in attributes.items()
        )
        inner = _escape(content) + (f"<title>{_escape(hint)}</title>" if hint else "")
        self._parts.append(f"<{tag}{written}>{inner}</{tag}>" if inner else f"<{tag}{written}/>")


def number(value: float) -> str:
    """Write a coordinate: at most two decimals, and 0 for what is no finite number.

    Examples
    --------
    >>> number(12.5), number(3.0), number(float("nan"))
    ('12.5', '3', '0')
    """
    if not math.isfinite(value):
        return "0"
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def text_width(text: str) -> float:
    """Return the width that a label takes, about."""
    return len(text) * TEXT_SIZE * _CHARACTER_WIDTH


def linear_ticks(low: float, high: float, *, about: int) -> list[float]:
    """Return round numbers that cover [low, high], at most some `about` of them.

    Examples
    --------
    >>> linear_ticks(-0.03, 0.41, about=5)
    [0.0, 0.1, 0.2, 0.3, 0.4]
    """
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    rough = span / max(about, 1)
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(scale * factor for factor in (1, 2, 5, 10) if scale * factor >= rough * 0.9)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return round ratios within [low, high], 0 < low < high, with 1 if it lies there; about three to seven.

    Examples
    --------
    >>> log_ticks(0.85, 1.62)
    [0.9, 1.0, 1.2, 1.5]
    >>> log_ticks(0.01, 120.0)
    [0.01, 0.1, 1.0, 10.0, 100.0]
    """
    for mantissas in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0, 9.0)):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [round(m * 10.0**d, 12) for d in decades for m in mantissas if low <= m * 10.0**d <= high]
        if len(ticks) >= 4:
            return ticks
    return ticks or linear_ticks(low, high, about=4)


def _attribute(value: float | str) -> str:
    return _escape(value) if isinstance(value, str) else number(value)


def _escape(text: str) -> str:
    return html.escape(str(clean(text)), quote=True)
