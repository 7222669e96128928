"""What a private regression may ask, and what is public of it in advance.

A question is public: it follows from the study and from what was opened with noise before (`private_rounds`). What a
patient adds in answer to it is in `private_parts`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from synthema.learning.design import Design, Floats
from synthema.learning.private_residuals import Kind, Residuals
from synthema.learning.responses import Response


@dataclass(frozen=True, slots=True, eq=False)
class Sizes:
    """Asks for round 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Asks for score and information.

    mean, sd          standardise the covariates, shape (p,); 0 and 1 for the intercept
    beta              coefficients of standardised covariates, shape (p,)
    residuals         the outcome's side
    score_clip        C;  information_clip  D;  unit  B for the dispersion of linear models
    shares            of score, information and dispersion: what each part's square of length may be, 1 in all
    offset            what is taken for everybody's offset where the true one must not decide on a weight
    intercept_reach   how much further out residuals are pulled in for the intercept
    """

    mean: Floats
    sd: Floats
    beta: Floats
    residuals: Residuals
    score_clip: float
    information_clip: float
    unit: float
    shares: tuple[float, float, float]
    offset: float = 0.0
    intercept_reach: float = 1.0


@dataclass(frozen=True, slots=True)
class Shape:
    """What is public of a model in advance: it decides how long the vectors of its rounds are."""

    kind: Kind
    design: Design
    response: Response

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return self.design.n_coefficients

    @property
    def numbers(self) -> tuple[int, ...]:
        """Indices of the terms that are numbers."""
        return tuple(j for j, (_, category) in enumerate(self.design.terms, start=1) if not category)

    @property
    def n_categorical(self) -> int:
        """Number of covariates with categories: a patient has at most one term of each."""
        return len({name for name, category in self.design.terms if category})

    @property
    def sizes_norm(self) -> float:
        """Greatest length of a patient's part of round 0."""
        of_outcome = 1 if self.kind == "logistic" else 2
        return math.sqrt(1 + 2 * len(self.numbers) + self.n_categorical + of_outcome)

    def dimension(self, index: int) -> int:
        """Return how many numbers round `index` opens."""
        if index == 0:
            of_outcome = 1 if self.kind == "logistic" else 2
            return 1 + len(self.design.terms) + len(self.numbers) + of_outcome
        return self.p + self.p * (self.p + 1) // 2 + (self.kind == "linear")
