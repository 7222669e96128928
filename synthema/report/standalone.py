"""A picture by itself: with the rules of the report's style sheet that it needs, in the colours for light pages."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources


def standalone(svg: str) -> str:
    """Return a picture of the report as one that needs no page around it; "" stays "".

    Examples
    --------
    >>> print(standalone('<svg role="img"><path class="line0" d="M0 0"/></svg>')[:40])
    <svg role="img" xmlns="http://www.w3.org
    """
    if not svg:
        return svg
    head, _, rest = svg.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{_rules()}</style>{rest}'


@lru_cache(maxsize=1)
def _rules() -> str:
    sheet = (resources.files("synthema") / "report" / "templates" / "report.css").read_text(encoding="utf-8")
    colours = sheet[sheet.index("{") + 1 : sheet.index("}")].replace("color-scheme: light dark;", "")
    lines = [line for line in sheet.splitlines() if line.startswith("svg ")]
    return f"svg {{ {' '.join(colours.split())} background: var(--page); font-family: sans-serif; }} {' '.join(lines)}"
