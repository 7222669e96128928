"""What can go wrong in `anonymise`: one root, attributes first, the sentence derived from them.

A message names a column, a rule and the way out. Hierarchies are public, so their labels may appear; a patient's value,
a record, a key or an exact count of patients never does.
"""

from __future__ import annotations

from privacy.errors import SchemaProblem


class AnonymiseError(Exception):
    """Root of every error that this package raises on purpose (bad arguments are ValueError)."""


class HierarchyError(AnonymiseError):
    """A generalisation hierarchy is not one: a leaf without a row, ragged rows, a group that splits higher up.

    `problems` lists all that were found; column, rule and way out are those of the first.
    """

    def __init__(self, *, column: str, rule: str, way_out: str, more: tuple[SchemaProblem, ...] = ()) -> None:
        self.column = column
        self.rule = rule
        self.way_out = way_out
        self.problems = (SchemaProblem(column, rule, way_out), *more)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class NotAnonymisable(AnonymiseError):
    """The table cannot be released under these models: too few patients, or no generalisation satisfies them."""

    def __init__(self, *, rule: str, way_out: str) -> None:
        self.rule = rule
        self.way_out = way_out
        super().__init__(f"{rule}; {way_out}")


class LatticeTooLarge(AnonymiseError):
    """The hierarchies span more combinations of levels than an exhaustive proof of the optimum can cover."""

    def __init__(self, *, n_nodes: int, limit: int) -> None:
        self.n_nodes = n_nodes
        self.limit = limit
        super().__init__(
            f"the hierarchies span {n_nodes} combinations of levels, the optimal search covers at most {limit}; "
            "give fewer levels, or fewer quasi-identifiers"
        )


class TimeLimitReached(AnonymiseError):
    """The search was stopped before it knew any generalisation that satisfies the models."""

    def __init__(self, *, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(
            f"no combination of levels that satisfies the models was found within {seconds:.3g} s; "
            "raise time_limit, raise suppression_limit, or give fewer quasi-identifiers"
        )


class TokenRejected(AnonymiseError):
    """A reversible pseudonym cannot be read: made with another key or domain, changed, or not one at all."""

    def __init__(self, *, column: str, rule: str, way_out: str) -> None:
        self.column = column
        self.rule = rule
        self.way_out = way_out
        super().__init__(f"column {column!r}: {rule}; {way_out}")


class GuaranteeBroken(AnonymiseError):
    """The finished table failed its own check, so it was not returned. Always a defect of this package."""

    def __init__(self, *, model: str) -> None:
        self.model = model
        super().__init__(f"the finished table does not satisfy {model} and was withheld; please report this defect")


class MissingLibrary(AnonymiseError, ImportError):
    """A table needs an optional library to be read."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"this table needs another library to be read: pip install '{what}'")


class TableChanged(AnonymiseError):
    """The rows that were to be released are not those that were counted; nothing was written."""

    def __init__(self) -> None:
        super().__init__(
            "the table changed between counting and releasing, so the release would not satisfy its models; "
            "work on a snapshot and plan again"
        )
