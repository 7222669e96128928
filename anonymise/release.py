"""From a table of patients to a released table: the best generalisation, applied, shuffled and checked again.

What leaves: generalised quasi-identifiers as text, and sensitive and insensitive columns *unchanged*. k-anonymity
speaks of the quasi-identifiers alone, so the schema's roles are the decision that protects: a column that can tell
patients apart (a free text, a laboratory value to three digits, a rare diagnosis) must be a quasi-identifier or go.
Identifiers and suppressed rows do not leave. Rows leave in a random order under a fresh index, because the input's
order or index would lead back to the patients.

Everybody is recoded alike (full-domain, global recoding) unless another algorithm is asked for: schemes that choose
per class leak through their choices (Cohen 2022, "Attacks on deidentification's defenses"). Two releases of the same
patients can be intersected; for repeated releases use differential privacy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import pandas as pd

from anonymise._checks import check_suppression_limit
from anonymise.by_class import ALGORITHMS, Algorithm, LocalAlgorithm, choose
from anonymise.errors import NotAnonymisable
from anonymise.lattice import Progress
from anonymise.local_recoding import MetricOf
from anonymise.loss import METRICS
from anonymise.models import AnyModel
from anonymise.models.checks import check_kinds
from anonymise.optimising import check_quality, find_optimum
from anonymise.preparing import Prepared, prepare
from anonymise.quality.registry import QualityName
from anonymise.recoding import full_domain, recoded
from anonymise.verifying import check_classes, check_contents, check_release, released_classes
from privacy.randomness import Rng, SecureRng
from privacy.schema import Schema


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A released table and how it came about. Only `table` and `node` are meant to leave the site.

    node        level of each quasi-identifier, in the schema's order; None where patients are recoded differently
    table       the release: fresh index, random order, labels as text
    score       what is lost by the chosen metric, 0 at best; it and `suppressed` depend on exact counts and stay inside
    suppressed  number of patients left out
    optimal     whether no other combination of levels has a lower score (proven)
    gap         score minus the proven lower bound of every score; 0.0 where optimal, NaN where none is known
    n_checked   combinations of levels whose classes were counted
    """

    node: Mapping[str, int] | None
    table: pd.DataFrame = field(repr=False)
    score: float = field(repr=False)
    suppressed: int = field(repr=False)
    optimal: bool
    gap: float
    n_checked: int = field(repr=False)


def anonymise(
    frame: pd.DataFrame,
    schema: Schema,
    *,
    models: Sequence[AnyModel],
    suppression_limit: float = 0.0,
    quality: QualityName = "loss",
    weights: Mapping[str, float] | None = None,
    suppression_factor: float = 0.5,
    target: str | None = None,
    algorithm: Algorithm = "optimal",
    population: pd.DataFrame | None = None,
    static: Sequence[str] = (),
    time_limit: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    rng: Rng | None = None,
) -> Result:
    """Return the release of least loss that satisfies all models, among all full-domain generalisations.

    Parameters
    ----------
    frame
        Exactly the schema's columns; one row a patient, or several if the schema names the patient's id. Then patients
        are counted and protected by all of their rows together, and the column of ids holds fresh random numbers in
        the release (`anonymise.longitudinal`).
    schema
        Roles, public domains and hierarchies of the columns.
    models
        What each equivalence class must satisfy; at least one.
    suppression_limit
        Largest share of patients that may be left out, in [0, 1]; floor(limit * patients), inclusive, and never all.
    quality
        What is lost least: "loss" (ARX's, arithmetic mean), "loss_geometric", "precision", "entropy",
        "non_uniform_entropy", "discernibility", "average_class_size", "kl_divergence" or "classification"
        (`anonymise.quality`). Algorithms other than "optimal" know "loss".
    weights
        Importance of quasi-identifiers, >= 0; 1 for one that is not listed. For the first five metrics.
    suppression_factor
        Generalisation against suppression as in ARX, in [0, 1]: below 0.5 suppressing is cheaper, above it
        generalising. Not for "discernibility" and "kl_divergence".
    target
        For "classification": the column that the release should predict.
    algorithm
        "optimal": one generalisation for all, the best one. Opt-in, with less loss and an `AttackableRelease` warning:
        "mondrian" (nobody is suppressed), "local", "cell_suppression" (`anonymise.by_class`).
    population
        The quasi-identifiers of everybody the patients come from, for models that compare with it; raw values.
    static
        Columns that have one value a patient (sex, year of birth): a table where they do not is refused.
    time_limit
        Seconds after which the search returns the best release so far; how much better one could be at most is its
        `gap`. By default it ends with the proof of the optimum, which can take long from about 15 quasi-identifiers on.
    progress
        Called a few times a second with where the search stands. It depends on exact counts: for the site's own eyes.
    rng
        Source of the released order; the operating system's by default.

    Raises
    ------
    SchemaError
        The table does not fit the schema.
    HierarchyError
        A hierarchy is not one.
    NotAnonymisable
        Too few patients, several values of a patient in a sensitive attribute, or no generalisation that satisfies
        the models.
    TimeLimitReached
        Nothing that satisfies the models was found in time.
    LatticeTooLarge
        More than 5e7 combinations of levels, for a metric that is no sum over rows and columns.

    Examples
    --------
    >>> from anonymise import KAnonymity
    >>> schema = Schema.from_dict({"columns": {
    ...     "age": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 99], "hierarchy": {"interval": [10]}},
    ...     "sex": {"role": "quasi-identifier", "categories": ["F", "M"]},
    ... }})
    >>> frame = pd.DataFrame({"age": [31, 34, 38, 62, 65], "sex": ["F", "F", "F", "M", "M"]})
    >>> result = anonymise(frame, schema, models=[KAnonymity(2)])
    >>> dict(result.node)
    {'age': 1, 'sex': 0}
    >>> sorted(result.table["age"].unique())
    ['[30, 40)', '[60, 70)']
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"frame must be a pandas DataFrame, got {type(frame).__name__} (anonymise.large reads others)")
    check_suppression_limit(suppression_limit)
    check_quality(quality, weights=weights, suppression_factor=suppression_factor, target=target)
    plain_loss = quality == "loss" and weights is None and suppression_factor == 0.5
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, got {algorithm!r}")
    if algorithm != "optimal" and not plain_loss:
        raise ValueError(f"algorithm={algorithm!r} knows quality='loss' alone, without weights and suppression_factor")
    check_kinds(models)
    prepared = prepare(
        frame,
        schema,
        models,
        suppression_limit=suppression_limit,
        population=population,
        static=static,
        target=target,
    )
    encoded, hierarchies = prepared.encoded, prepared.hierarchies
    rng = SecureRng() if rng is None else rng
    if algorithm != "optimal":
        return _by_class(algorithm, prepared, schema, models, METRICS["loss"], rng)
    optimum = find_optimum(
        encoded,
        models,
        quality=quality,
        max_suppressed=prepared.max_suppressed,
        weights=weights,
        suppression_factor=suppression_factor,
        target=target,
        time_limit=time_limit,
        progress=progress,
    )
    if optimum is None:
        raise NotAnonymisable(
            rule="no combination of levels satisfies the models within the suppression limit",
            way_out="let the hierarchies end in one group (*), raise suppression_limit, or relax the models",
        )
    table = recoded(prepared, schema, full_domain(encoded, models, optimum.node), rng)
    patient = None if prepared.patients is None else schema.patient_id
    check_release(
        table,
        hierarchies,
        optimum.node,
        models,
        n_rows=encoded.n_rows,
        attributes=encoded.attributes,
        population=prepared.population,
        patient=patient,
    )
    check_contents(table, schema, n_patients=encoded.n_rows - optimum.n_suppressed, patient=patient)
    return Result(
        node=MappingProxyType(dict(zip(schema.quasi_identifiers, optimum.node, strict=True))),
        table=table,
        # Other metrics speak of the rows that entered the search.
        score=_with_lacking(optimum.score, prepared) if plain_loss else optimum.score,
        suppressed=optimum.n_suppressed + prepared.n_lacking,
        optimal=optimum.proven,
        gap=optimum.gap * (len(prepared.frame) / prepared.n_records if plain_loss else 1.0),
        n_checked=optimum.n_checked,
    )


def _by_class(
    algorithm: LocalAlgorithm,
    prepared: Prepared,
    schema: Schema,
    models: Sequence[AnyModel],
    metric_of: MetricOf,
    rng: Rng,
) -> Result:
    choice = choose(algorithm, prepared, models, metric_of=metric_of)
    table = recoded(prepared, schema, choice.texts, rng)
    names, encoded = schema.quasi_identifiers, prepared.encoded
    classes, _ = released_classes(table, names, n_rows=encoded.n_rows, attributes=encoded.attributes)
    check_classes(classes, models)
    check_contents(table, schema, n_patients=encoded.n_rows - choice.n_suppressed)
    return Result(
        node=None,
        table=table,
        score=_with_lacking(choice.score, prepared),
        suppressed=choice.n_suppressed + prepared.n_lacking,
        optimal=False,
        gap=math.nan,
        n_checked=choice.n_checked,
    )


def _with_lacking(score: float, prepared: Prepared) -> float:
    """Return the score with the rows that were left out beforehand: loss 1, as all that are suppressed."""
    n_all = prepared.n_records
    n_lacking = n_all - len(prepared.frame)
    return (score * (n_all - n_lacking) + n_lacking) / n_all if n_lacking else score
