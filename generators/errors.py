"""What can go wrong in `generators`: one root, each message names the rule and the way out.

No message holds a patient's value, an answer or an exact private count.
"""

from __future__ import annotations


class GeneratorError(Exception):
    """Root of every error that this package raises on purpose."""


class BudgetInvalid(GeneratorError, ValueError):
    """The privacy budget is no number that buys anything, or is given twice."""


class DomainMismatch(GeneratorError, ValueError):
    """An oracle, an estimate or a table speaks of other columns or sizes than the schema."""


class UnknownColumn(GeneratorError, KeyError):
    """A column has no public list of codes in this domain."""

    def __init__(self, name: object, known: tuple[str, ...]) -> None:
        self.name = name
        self.known = known
        super().__init__(name)

    def __str__(self) -> str:
        return f"column {self.name!r} is not in the domain; known: {', '.join(self.known)}"


class MarginalTooLarge(GeneratorError, ValueError):
    """A marginal has more cells than memory is set aside for."""


class TableTooLarge(GeneratorError, ValueError):
    """A table has more distinct combinations of codes than memory is set aside for."""


class TooManyRecords(GeneratorError, ValueError):
    """A patient has more rows than the noise is made for, so the guarantee would not hold for that patient."""

    @classmethod
    def of(cls, most: int) -> TooManyRecords:
        """Return the error with its sentence, which names no patient and no number of rows but the public limit."""
        return cls(
            f"a patient has more than max_records_per_patient = {most} rows, so the noise would not protect that "
            "patient; raise it (noise grows in proportion), or keep so many rows of each (keep='random', keep_records)"
        )


class MissingLibrary(GeneratorError, ImportError):
    """A table needs an optional library to be read."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"this table needs another library to be read: pip install '{what}'")


class NoLikelyRow(GeneratorError, ValueError):
    """No row of the wanted kind can be drawn: the condition has probability zero, or rules exclude nearly all."""


class ModelFileInvalid(GeneratorError, ValueError):
    """A file is not a saved model of a known version, or its parts contradict each other."""


class NotConverged(GeneratorError, ArithmeticError):
    """A regression did not reach its optimum; its last value would be no answer."""
