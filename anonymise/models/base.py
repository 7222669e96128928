"""What the search needs of a privacy model: which equivalence classes may not be released, and what follows from it.

A class is the set of patients who agree on every quasi-identifier. A model looks at classes alone; the rows of a
failing class are suppressed. Flags tell the search what it may conclude about nodes that it has not looked at.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from anonymise.classes import AttributeName, BoolArray, Classes, IntArray


@runtime_checkable
class Model(Protocol):
    """A statement on each class by itself."""

    @property
    def attribute(self) -> AttributeName | None:
        """The sensitive column that it looks at (several: their combination); None if sizes are enough."""
        ...

    @property
    def needs_population(self) -> bool:
        """Whether it compares with a population table."""
        ...

    @property
    def downward_closed(self) -> bool:
        """Whether every part of a failing class fails as well.

        Then rows suppressed at a node are suppressed at every more specific node, and one check bounds all of these.
        True for k-anonymity; false for models that compare a class's distribution, where a part can be balanced.
        """
        ...

    @property
    def monotone(self) -> bool:
        """Whether the union of passing classes passes.

        Then a failing class has, at every more specific node, at least one part that fails.
        """
        ...

    @property
    def least_rows(self) -> int:
        """A table with fewer patients than this can never satisfy the model."""
        ...

    def class_fails(self, classes: Classes) -> BoolArray:
        """Return which classes fail, shape (n_classes,)."""
        ...

    def least_lost(self, classes: Classes) -> IntArray:
        """Return how many patients of each failing class are suppressed at every more specific node, at least.

        A certified lower bound, whatever parts the class falls into, shape (n_classes,); asked for failing classes
        only. The parts that are kept form, together, a part of the class; where the model is monotone that part passes.
        """
        ...


@runtime_checkable
class TableModel(Protocol):
    """A statement on the release as a whole, met by suppressing the smallest classes first."""

    @property
    def monotone(self) -> bool:
        """Whether a release that satisfies it still does when classes are merged, and when rows join its classes.

        Then, and if no choice of classes that satisfies it has more rows than leaving out the smallest ones,
        `least_dropped` also tells how many rows are suppressed at every more specific node.
        """
        ...

    @property
    def least_rows(self) -> int:
        """A table with fewer patients than this can never satisfy the model."""
        ...

    def least_dropped(self, sizes: IntArray) -> int:
        """Return how many of the smallest classes must go, at least, for the others to satisfy the model.

        `sizes` are those of the classes that satisfy all other models, ascending. A release without classes satisfies
        it.
        """
        ...

    def satisfied(self, sizes: IntArray) -> bool:
        """Return whether a release of classes of these sizes satisfies the model."""
        ...


AnyModel = Model | TableModel
