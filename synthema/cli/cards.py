"""What the commands that trust cards share: reading them, and saying whom is trusted now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from synthema.cli.errors import show

if TYPE_CHECKING:
    from synthema.agent.setup import Card


def trust_cards(files: Sequence[Path], add: Callable[[Sequence[Card]], None], *, as_json: bool) -> None:
    """Read cards, have them added, and show their fingerprints."""
    from synthema.agent.setup import read_cards

    read = [each for path in files for each in read_cards(path.read_text(encoding="utf-8"))]
    add(read)
    names = {each.name: each.fingerprint for each in read}
    text = "\n".join(f"{name} is trusted now: {fingerprint}" for name, fingerprint in names.items())
    show({"trusted": names}, text, as_json=as_json)
