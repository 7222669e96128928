"""Levels of set-valued columns: a cell holds several codes ("D46;E11") and is generalised as one value.

The leaves are all public sets of one to max_members categories. A level generalises each member and keeps each group
once, in the order of the member's hierarchy: {C91.0, C92.0} becomes {C91, C92}, then {C81-C96}. Images of maps compose,
so the levels nest.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from anonymise._domains import all_sets
from privacy.schema import Column


class MemberLevels(Protocol):
    """The hierarchy of the members: labels[level][group], codes[level][member] -> group."""

    @property
    def labels(self) -> tuple[tuple[str, ...], ...]: ...
    @property
    def codes(self) -> tuple[npt.NDArray[np.int64], ...]: ...
    @property
    def leaf_of_domain(self) -> npt.NDArray[np.int64]: ...


def set_levels(column: Column, members: MemberLevels) -> list[list[str]]:
    """Return the label of each public set at each level of its members' hierarchy, the sets themselves first."""
    chosen = all_sets(column)
    width = max(len(codes) for codes in chosen)
    # Shorter sets repeat their last member; repetitions are removed anyway.
    table = members.leaf_of_domain[np.array([codes + codes[-1:] * (width - len(codes)) for codes in chosen])]
    levels = []
    for labels, codes in zip(members.labels, members.codes, strict=True):
        groups = np.sort(codes[table], axis=1)
        groups[:, 1:][groups[:, 1:] == groups[:, :-1]] = len(labels)  # Above every group: sorted to the end.
        distinct, place = np.unique(np.sort(groups, axis=1), axis=0, return_inverse=True)
        texts = [column.separator.join(labels[code] for code in row if code < len(labels)) for row in distinct.tolist()]
        levels.append([texts[at] for at in place.ravel().tolist()])
    return levels
