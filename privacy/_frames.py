"""Frames of any library through narwhals, in chunks; imported only for tables that are no pandas frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Missing = Callable[[str], Exception]


def frames_of(table: Any, *, n_rows: int, missing: Missing) -> Iterator[Any] | None:
    """Return the table's chunks as narwhals frames, or None if it is no frame of a known library.

    A lazy frame is executed once: asked twice, an engine may return its rows in another order or number, and a patient
    could be counted twice.

    missing   makes the error of a library that must be installed, from its name
    """
    try:
        import narwhals.stable.v2 as nw
    except ImportError:
        if hasattr(table, "columns") or hasattr(table, "schema"):
            raise missing("synthema[frames]") from None
        return None
    frame = nw.from_native(table, pass_through=True)
    if isinstance(frame, nw.DataFrame):
        return _slices(frame, n_rows)
    if isinstance(frame, nw.LazyFrame):
        return _executed(frame, n_rows, missing)
    return None


def _slices(frame: Any, n_rows: int) -> Iterator[Any]:
    for start in range(0, max(len(frame), 1), n_rows):
        yield frame[start : start + n_rows]


def _executed(frame: Any, n_rows: int, missing: Missing) -> Iterator[Any]:
    """Yield the result in batches where the engine has such a door, else whole."""
    import narwhals.stable.v2 as nw

    native = frame.to_native()
    # Looked up in the class: a relation of DuckDB also gives its columns as attributes.
    if hasattr(type(native), "collect_batches"):  # Polars
        for batch in native.collect_batches(chunk_size=n_rows):
            yield from _slices(nw.from_native(batch), n_rows)
        return
    try:
        import pyarrow as pa
    except ImportError:
        raise missing("pyarrow") from None
    for door in ("to_arrow_reader", "fetch_record_batch"):  # DuckDB
        if hasattr(type(native), door):
            for batch in getattr(native, door)(n_rows):
                yield from _slices(nw.from_native(pa.Table.from_batches([batch])), n_rows)
            return
    yield from _slices(frame.collect(), n_rows)
