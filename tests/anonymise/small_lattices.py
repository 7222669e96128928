"""Tables small enough for brute force: random trees, and a model whose failing classes have passing parts."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from anonymise import build_hierarchy
from privacy.schema import Column, HierarchySpec


@dataclass(frozen=True)
class EvenClasses:
    """A model made up for this test: classes have an even size. A failing class has passing parts."""

    downward_closed: bool = False
    monotone: bool = True
    least_rows: int = 2
    attribute: None = None
    needs_population: bool = False

    def class_fails(self, classes):
        return classes.sizes % 2 == 1

    def least_lost(self, classes):
        # All parts of an odd class cannot be even.
        return np.ones(len(classes), dtype=np.int64)


@st.composite
def hierarchies(draw, name, *, most_leaves=5, most_levels=3, ends_in_one=False):
    """A random tree: groups of each level are merged into groups of the next."""
    n_leaves = draw(st.integers(1, most_leaves))
    levels = [list(range(n_leaves))]
    for _ in range(draw(st.integers(1, most_levels))):
        merged = draw(st.lists(st.integers(0, 2), min_size=5, max_size=5))
        levels.append([merged[group] for group in levels[-1]])
    if ends_in_one or draw(st.booleans()):
        levels.append([0] * n_leaves)
    rows = tuple(tuple(f"{at}:{level[leaf]}" for at, level in enumerate(levels)) for leaf in range(n_leaves))
    return build_hierarchy(
        Column(name, categories=tuple(row[0] for row in rows), hierarchy=HierarchySpec("rows", rows=rows))
    )
