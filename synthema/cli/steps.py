"""The current step of a long command: a spinner on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def progress(*, quiet: bool) -> Iterator[Any]:
    """Yield a function that shows the current step: a spinner on a terminal, nothing elsewhere.

    `say(line)` begins a step, `say(line, same=True)` says something else of the one that runs.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda _line, *, same=False: None  # noqa: ARG005
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        current: list[Any] = []

        def say(line: str, *, same: bool = False) -> None:
            if current and same:
                bar.update(current[-1], description=line)
                return
            if current:
                bar.update(current[-1], total=1, completed=1)
            current.append(bar.add_task(line, total=None))

        yield say
        if current:
            bar.update(current[-1], total=1, completed=1)
