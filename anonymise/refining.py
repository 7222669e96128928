"""Class numbers of the distinct tuples at a node, refined from those of a more general node.

Lowering columns splits classes and never joins them, so the classes of a node are those of any node above it, each
told apart by the lowered columns alone. A column then adds only the place of a value among its siblings: the groups of
the lower level that are one group at the higher level. Few siblings keep the numbers small, and small numbers are
counted without sorting.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from anonymise.encoded import Encoded, Keys, Node, squeeze

# Class numbers of recent nodes are kept up to this many bytes.
_KEPT_BYTES: Final = 1 << 26


class ClassKeys:
    """One number per entry for each node asked for, equal exactly where the class is.

    Which number a class has depends on what was asked for before.
    """

    def __init__(self, encoded: Encoded) -> None:
        self._encoded = encoded
        self._most = max(4, _KEPT_BYTES // (8 * encoded.n_tuples))
        self._known: dict[Node, tuple[Keys, int]] = {}
        self._places: dict[tuple[int, int, int], tuple[npt.NDArray[Any], int]] = {}

    def at(self, node: Node, above: Node | None = None) -> tuple[Keys, int]:
        """Return the class number of each entry at a node, shape (n_entries,), and a bound above all numbers.

        above    a node that is nowhere below `node`; what is known of it is used
        """
        found = self._known.pop(node, None)
        if found is None:
            found = self._refined(node, above)
            while len(self._known) >= self._most:
                del self._known[next(iter(self._known))]
        # Dictionaries keep their order, so the first is the one that was asked for longest ago.
        self._known[node] = found
        return self._encoded.fold(*found)

    def _refined(self, node: Node, above: Node | None) -> tuple[Keys, int]:
        if above is None or above not in self._known:
            above = (-1,) * len(node)
            # Indices of NumPy's own type: others are converted wherever something is looked up or counted.
            key, size = np.zeros(self._encoded.n_tuples, dtype=np.intp), 1
        else:
            key, size = self._known[above]
        limit = 2 * key.size + 1024
        for column, (level, before) in enumerate(zip(node, above, strict=True)):
            if level == before:
                continue
            places, siblings = self._siblings(column, level, before)
            if siblings == 1:
                continue
            if size * siblings > limit and size > 1:
                key, size = squeeze(key, size)
            key = key * siblings if size > 1 else np.zeros_like(key)
            key += places
            size *= siblings
        return squeeze(key, size) if size > 2 * limit else (key, size)

    def _siblings(self, column: int, level: int, above: int) -> tuple[npt.NDArray[Any], int]:
        """Return the place of each tuple's group among those of one group above, shape (n_tuples,), and their number.

        `above` is a level, or -1 for one group of everything.
        """
        found = self._places.get((column, level, above))
        if found is None:
            hierarchy = self._encoded.hierarchies[column]
            codes = hierarchy.codes[level]
            n_groups = hierarchy.n_groups(level)
            if above < 0:
                place = np.arange(n_groups)
            else:
                parent = np.zeros(n_groups, dtype=np.int64)
                parent[codes] = hierarchy.codes[above]
                order = np.argsort(parent, kind="stable")
                first = np.searchsorted(parent[order], parent)
                place = np.empty(n_groups, dtype=np.int64)
                place[order] = np.arange(n_groups)
                place -= first
            siblings = int(place.max()) + 1
            narrow = np.uint8 if siblings <= 2**8 else np.uint16 if siblings <= 2**16 else np.int32
            found = place.astype(narrow)[codes][self._encoded.leaves[column]], siblings
            self._places[column, level, above] = found
        return found
