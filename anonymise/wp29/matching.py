"""Which rows fit which: the people that a released row's cells can stand for, and the released rows that fit a person.

asked    codes of those who are looked for, one array a column
rows     codes of the rows that are searched, of the other side
Where no value has two labels, as in a full-domain generalisation, rows that fit have one key: all are counted at once.
Else (local recoding, cell suppression, Mondrian) the rows that a code accepts are a bit set, and a conjunction is an
AND.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from anonymise.classes import FloatArray, IntArray
from anonymise.encoded import dense_key, squeeze
from anonymise.wp29.cells import Cells

Codes = Sequence[IntArray]
# Conjunctions whose bit sets are held at a time: 256 of a million rows are 32 MB.
_BLOCK = 256
# Bit sets of a column's codes are kept over all blocks if they take no more than this many words: 64 MB.
_KEPT_WORDS = 1 << 23


def count_fitting(cells: Sequence[Cells], asked: Codes, rows: Codes, *, labels_asked: bool) -> IntArray:
    """Return how many rows fit each of those asked for, shape (n_asked,).

    labels_asked   labels are looked for among values; else values among labels
    """
    if _one_label(cells):
        key, of_rows, size = _keys(cells, asked, rows, labels_asked=labels_asked)
        return np.bincount(of_rows, minlength=size)[key]
    first, place = distinct_asked(cells, asked, labels=labels_asked)
    counts = np.empty(first.size, dtype=np.int64)
    for block, bits in _fitting(cells, [codes[first] for codes in asked], rows, labels_asked=labels_asked):
        counts[block] = np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
    return counts[place]


def guess_right(
    cells: Sequence[Cells], people: Codes, rows: Codes, secret: Cells, truth: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Return the probability that the commonest secret among the fitting rows is a person's, one of equals at random.

    people   values, shape (n_people,) each
    rows     labels of all released rows
    truth    value of the secret of each person

    Returns
    -------
    The guess from the rows that fit, and the guess from all rows: what is left where no row fits. Shape (n_people,).
    """
    counts = np.bincount(secret.labels, minlength=secret.n_labels)
    commonest = counts == counts.max()
    without = (commonest / commonest.sum())[truth]
    if _one_label(cells):
        key, of_rows, size = _keys(cells, people, rows, labels_asked=False)
        right = _right_by_key(key, of_rows, size, secret, truth)
    else:
        right = _right_by_bits(cells, people, rows, secret, truth)
    return np.where(np.isnan(right), without, right), without


def _right_by_key(key: IntArray, of_rows: IntArray, size: int, secret: Cells, truth: IntArray) -> FloatArray:
    n = secret.n_labels
    pairs, counts = np.unique(of_rows * n + secret.labels, return_counts=True)
    classes = pairs // n
    most = np.zeros(size, dtype=np.int64)
    np.maximum.at(most, classes, counts)
    ties = np.bincount(classes[counts == most[classes]], minlength=size)
    asked = key * n + truth
    place = np.minimum(np.searchsorted(pairs, asked), pairs.size - 1)
    hit = (pairs[place] == asked) & (counts[place] == most[key])
    return np.where(ties[key] == 0, np.nan, hit / np.maximum(ties[key], 1))


def _right_by_bits(cells: Sequence[Cells], people: Codes, rows: Codes, secret: Cells, truth: IntArray) -> FloatArray:
    first, place = distinct_asked(cells, people, labels=False)
    order = np.argsort(place, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(place, minlength=first.size))[:-1])
    right = np.full(truth.size, np.nan)
    for block, bits in _fitting(cells, [codes[first] for codes in people], rows, labels_asked=False):
        for at, met in zip(range(block.start, block.stop), bits, strict=True):
            fitting = np.flatnonzero(np.unpackbits(met.view(np.uint8), count=rows[0].size).view(np.bool_))
            if fitting.size:
                counts = np.bincount(secret.labels[fitting], minlength=secret.n_labels)
                commonest = counts == counts.max()
                right[groups[at]] = commonest[truth[groups[at]]] / commonest.sum()
    return right


def _one_label(cells: Sequence[Cells]) -> bool:
    return all(cell.label_of_value is not None for cell in cells)


def _keys(cells: Sequence[Cells], asked: Codes, rows: Codes, *, labels_asked: bool) -> tuple[IntArray, IntArray, int]:
    """Return one integer per conjunction and per row, equal exactly where they fit, and a bound above them."""
    columns = [
        np.concatenate((cell.numbered(a, label=labels_asked), cell.numbered(r, label=not labels_asked)))
        for cell, a, r in zip(cells, asked, rows, strict=True)
    ]
    # A value that no label stands for has a number of its own, which no label has.
    key, size = squeeze(*dense_key(columns, [cell.n_labels + 1 for cell in cells]))
    whole = key.astype(np.int64)
    return whole[: asked[0].size], whole[asked[0].size :], size


def distinct_asked(cells: Sequence[Cells], asked: Codes, *, labels: bool) -> tuple[IntArray, IntArray]:
    """Return the position of one of each distinct conjunction, and which of them each one is."""
    key, _ = dense_key(asked, [cell.n_labels if labels else cell.n_values for cell in cells])
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    return first.astype(np.int64), place.astype(np.int64)


def _fitting(
    cells: Sequence[Cells], asked: Codes, rows: Codes, *, labels_asked: bool
) -> Iterator[tuple[slice, npt.NDArray[np.uint64]]]:
    """Yield blocks of conjunctions, and the rows that fit each as a bit set, shape (n_block, n_words)."""
    n_words = (rows[0].size + 63) // 64
    kept = [
        _accepting(cell, np.unique(codes), of_rows, label=labels_asked)
        if np.unique(codes).size * n_words <= _KEPT_WORDS
        else None
        for cell, codes, of_rows in zip(cells, asked, rows, strict=True)
    ]
    for start in range(0, asked[0].size, _BLOCK):
        block = slice(start, min(start + _BLOCK, asked[0].size))
        met = np.full((block.stop - start, n_words), ~np.uint64(0))
        for cell, codes, of_rows, known in zip(cells, asked, rows, kept, strict=True):
            used, bits = known or _accepting(cell, np.unique(codes[block]), of_rows, label=labels_asked)
            met &= bits[np.searchsorted(used, codes[block])]
        yield block, met


def _accepting(
    cell: Cells, used: IntArray, of_rows: IntArray, *, label: bool
) -> tuple[IntArray, npt.NDArray[np.uint64]]:
    """Return some codes, ascending, and which rows each accepts, shape (n_used, n_words)."""
    bits = np.zeros((used.size, (of_rows.size + 63) // 64), dtype=np.uint64)
    for row, code in zip(bits, used.tolist(), strict=True):
        packed = np.packbits(of_rows == code if cell.covers is None else cell.accepts(code, label=label)[of_rows])
        row.view(np.uint8)[: packed.size] = packed
    return used, bits
