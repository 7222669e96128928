"""k-means: groups of similar patients over all sites. `kind = "k-means"`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from synthema.learning.estimator import JointModel
from synthema.learning.model import ModelSpec, Rounds, SiteHalf, Table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from privacy import Event, Schema
    from synthema.governance.refusals import Reason
    from synthema.policy import SitePolicy
    from synthema.study import Study

# A centre is opened on a grid of so many steps to half a column's range; see `kmeans_exact`.
STEPS = 64


class KMeansSpec(ModelSpec):
    """Clusters by Lloyd's algorithm on numbers scaled by their public bounds to [-1, 1].

    columns         numbers with bounds, not nullable
    n_clusters      2..12
    max_iterations  1..50; with noise, how often the centres move: 6 if not given
    """

    kind: Literal["k-means"] = "k-means"
    columns: tuple[str, ...] = Field(min_length=1, max_length=20)
    n_clusters: int = Field(ge=2, le=12)
    max_iterations: int = Field(default=30, ge=1, le=50)

    title: ClassVar[str] = "k-means"
    # Sizes of clusters are counts between two numbers, and other clusters lie between other numbers, often near by.
    one_in_a_study: ClassVar[bool] = True

    def check(self, schema: Schema) -> None:
        """See `ModelSpec.check`."""
        if len(set(self.columns)) < len(self.columns):
            raise ValueError("columns: name each column once")
        for name in self.columns:
            column = schema.column(name)
            if not (column.is_coded and column.is_numeric) or column.categories or column.nullable:
                raise ValueError(f"columns: {name!r} must be a number with bounds, and not nullable")

    @property
    def what(self) -> str:
        """See `ModelSpec.what`."""
        return f"centres of {self.n_clusters} clusters by {', '.join(self.columns)}"

    def exact_rules(self, policy: SitePolicy, study: Study) -> Iterator[tuple[Reason, str]]:
        """See `ModelSpec.exact_rules`."""
        del study
        # A patient moves a centre by less than a step, whatever the patient's values.
        if policy.min_cell > STEPS:
            yield "exact", f"the site wants {policy.min_cell} patients in a cell; clusters hold {STEPS}: leave it out"

    def event(self, study: Study, rho: float) -> Event:
        """See `ModelSpec.event`."""
        from synthema.learning import kmeans_private

        return kmeans_private.event(self, study, rho)

    def site_half(self, study: Study, schema: Schema, rows: pd.DataFrame) -> SiteHalf:
        """See `ModelSpec.site_half`."""
        from synthema.learning import kmeans_exact, kmeans_private

        if self.mode == "private":
            return kmeans_private.AtSite(self, schema, rows)
        return kmeans_exact.AtSite(self, study, schema, rows)

    def fit(self, rounds: Rounds) -> dict[str, Any]:
        """See `ModelSpec.fit`."""
        from synthema.learning import kmeans_exact, kmeans_private

        return kmeans_private.fit(self, rounds) if self.mode == "private" else kmeans_exact.fit(self, rounds)

    def summary(self, answer: dict[str, Any]) -> tuple[Table, ...]:
        """See `ModelSpec.summary`."""
        rows: tuple[tuple[str | float, ...], ...] = tuple(
            (f"cluster {j + 1}", float(size), *(float(value) for value in centre))
            for j, (size, centre) in enumerate(zip(answer["sizes"], answer["centres"], strict=True))
        )
        ended = "Centres had settled" if answer["converged"] else "Stopped before the centres had settled"
        note = f"{ended} after {answer['iterations']} rounds. Centres are rounded to 1/{2 * STEPS} of a column's range."
        if self.mode == "private":
            note = f"{answer['iterations']} rounds, with noise in sizes and centres."
        return (Table("Centres", ("", "patients", *self.columns), rows, note),)


class KMeans(JointModel):
    """Joint k-means. Fields: see `KMeansSpec`.

    Attributes
    ----------
    cluster_centers_
        In the columns' own units, shape (n_clusters, columns), sorted by the first column.
    sizes_
        Patients in each cluster, shape (n_clusters,).
    """

    spec_class = KMeansSpec
    cluster_centers_: npt.NDArray[np.float64]
    sizes_: npt.NDArray[np.float64]

    def _read(self, answer: dict[str, Any]) -> None:
        import numpy as np

        self.cluster_centers_ = np.array([[float(value) for value in centre] for centre in answer["centres"]])
        self.sizes_ = np.array([float(size) for size in answer["sizes"]])

    def predict(self, frame: pd.DataFrame) -> npt.NDArray[np.int64]:
        """Return the nearest cluster of each row, by columns scaled as in the fit, shape (n,). Raises NotFitted."""
        import numpy as np

        from synthema.learning.kmeans_exact import nearest

        half = np.array([float(each) for each in self.answer_["half_ranges"]])
        values = frame[list(self.spec_.model_dump()["columns"])].to_numpy(dtype=np.float64)
        return nearest(values / half, self.cluster_centers_ / half)
