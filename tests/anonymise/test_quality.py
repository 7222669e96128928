"""Every metric against a plain reading of its definition: row by row, from the released texts, over all nodes."""

import itertools
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_lattices import EvenClasses, hierarchies

from anonymise import (
    KAnonymity,
    LatticeTooLarge,
    NotAnonymisable,
    Schema,
    anonymise,
    build_hierarchy,
    encode_table,
)
from anonymise import class_search as class_search_module
from anonymise.class_search import NodeView, class_search, problem_of
from anonymise.errors import TimeLimitReached
from anonymise.longitudinal import encode_histories
from anonymise.optimising import check_quality, find_optimum
from anonymise.quality import QUALITIES, classification, column_weights
from privacy.schema import Column, HierarchySpec

FACTORS = (0.0, 0.2, 0.5, 0.8, 1.0)
TARGETS = ("yes", "no", "maybe")


@dataclass(frozen=True)
class FewClasses:
    """A statement on the table made up for this test: at most two classes are released."""

    monotone: bool = True
    least_rows: int = 1

    def satisfied(self, sizes):
        return sizes.size <= 2

    def least_dropped(self, sizes):
        return max(0, sizes.size - 2)


@st.composite
def cases(draw):
    chosen = [draw(hierarchies(f"q{i}", most_levels=2)) for i in range(draw(st.integers(1, 3)))]
    row = st.tuples(*(st.sampled_from(hierarchy.labels[0]) for hierarchy in chosen), st.sampled_from(TARGETS))
    rows = draw(st.lists(row, min_size=2, max_size=14))
    models = draw(
        st.sampled_from(
            [
                [KAnonymity(2)],
                [KAnonymity(3)],
                [EvenClasses()],
                [KAnonymity(3), EvenClasses()],
                [KAnonymity(2), FewClasses()],
                [FewClasses()],
            ]
        )
    )
    weights = {h.name: draw(st.sampled_from([0.0, 0.5, 1.0, 2.0])) for h in chosen[1:]}
    return chosen, rows, models, draw(st.integers(0, len(rows) - 1)), draw(st.sampled_from(FACTORS)), weights


def plain_release(chosen, rows, models, node):
    """The released texts of each row, None where the row is suppressed."""
    texts = []
    for row in rows:
        cells = []
        for hierarchy, level, value in zip(chosen, node, row, strict=False):
            of_leaf = [hierarchy.labels[level][code] for code in hierarchy.codes[level]]
            cells.append(of_leaf[hierarchy.labels[0].index(value)])
        texts.append(tuple(cells))
    sizes = Counter(texts)
    fails = {cell for cell, size in sizes.items() for m in models if isinstance(m, KAnonymity) and size < m.k}
    fails |= {cell for cell, size in sizes.items() for m in models if isinstance(m, EvenClasses) and size % 2}
    if any(isinstance(m, FewClasses) for m in models):
        # The smallest classes go first; of equal ones that whose labels stand first in their hierarchies.
        order = sorted(
            sizes.keys() - fails,
            key=lambda cell: (
                sizes[cell],
                *(h.labels[level].index(text) for h, level, text in zip(chosen, node, cell, strict=True)),
            ),
        )
        fails |= set(order[: max(0, len(order) - 2)])
    return [None if cell in fails else cell for cell in texts], texts


def plain_score(name, chosen, rows, node, released, texts, factor, weights):
    """The definition, read plainly. `texts` are the generalised cells of all rows, suppressed ones included."""
    g, s = min(1, 2 - 2 * factor), min(1, 2 * factor)
    n, m = len(rows), len(chosen)
    lost = [at for at, cell in enumerate(released) if cell is None]
    kept = [at for at, cell in enumerate(released) if cell is not None]
    largest = max(weights.get(h.name, 1.0) for h in chosen)
    w = [weights.get(h.name, 1.0) / largest for h in chosen]
    raw = [row[:m] for row in rows]
    classes = Counter(released[at] for at in kept)
    columns = []
    for j, (hierarchy, level) in enumerate(zip(chosen, node, strict=True)):
        leaf_texts = [hierarchy.labels[level][code] for code in hierarchy.codes[level]]
        columns.append((leaf_texts, [texts[at][j] for at in range(n)], [row[j] for row in raw]))

    def group_size(j, at):
        return columns[j][0].count(columns[j][1][at])

    if name in ("loss", "loss_geometric"):
        means = []
        for j in range(m):
            leaves, total = len(columns[j][0]), 0.0
            for at in range(n):
                share = group_size(j, at) / leaves
                cell = 0.0 if leaves == 1 else (g * share - g / leaves) / (1 - g / leaves)
                total += cell if released[at] is not None else cell + s * (1 - cell)
            means.append(w[j] * total / n)
        if name == "loss":
            return sum(means) / m
        return math.prod((1 + mean) ** (1 / m) for mean in means) - 1
    if name == "precision":
        total = sum(w[j] * g * node[j] / max(1, chosen[j].n_levels - 1) / m for j in range(m)) * len(kept)
        return (total + sum(w) / m * s * len(lost)) / n
    if name == "entropy":
        whole = sum(w[j] * math.log2(len(columns[j][0])) for j in range(m))
        if whole == 0:
            return 0.0
        total = sum(w[j] * g * math.log2(group_size(j, at)) for j in range(m) for at in kept)
        return (total / whole + s * len(lost)) / n
    if name == "non_uniform_entropy":
        total = 0.0
        for j in range(m):
            _, seen, values = columns[j]
            for at in range(n):
                total -= w[j] * g * math.log2(values.count(values[at]) / seen.count(seen[at]))
            gone = [seen[at] for at in lost]
            for text in gone:
                total -= w[j] * s * math.log2(gone.count(text) / len(gone))
        return total
    if name == "discernibility":
        return sum(classes[released[at]] for at in kept) + n * len(lost)
    if name == "average_class_size":
        return n / (s * len(classes) + (g if lost else 0))
    if name == "kl_divergence":
        total = 0.0
        for values in set(raw):
            at = raw.index(values)
            if released[at] is None:
                out = len(lost) / n / math.prod(len(columns[j][0]) for j in range(m))
            else:
                out = classes[released[at]] / n / math.prod(group_size(j, at) for j in range(m))
            share = raw.count(values) / n
            total += share * math.log2(share / out)
        return total
    total = factor * len(lost)
    for cell, size in classes.items():
        (_, first), *others = Counter(rows[at][m] for at in kept if released[at] == cell).most_common()
        total += s * size if others and others[0][1] == first else g * (size - first)
    return total / (n * max(factor, g, s))


ANSWER = build_hierarchy(Column("answer", categories=TARGETS))


def encoded_case(chosen, rows, **more):
    *columns, target = (np.array(column, dtype=object) for column in zip(*rows, strict=True))
    data = encode_table(columns, chosen, sensitive={"answer": [(target, ANSWER)]}, **more)
    return data, data.attributes["answer"]


def all_nodes(chosen):
    return list(itertools.product(*(range(hierarchy.n_levels) for hierarchy in chosen)))


def feasible(case):
    """The released and the generalised texts of each node that suppresses no more than it may."""
    chosen, rows, models, max_suppressed, _, _ = case
    releases = {node: plain_release(chosen, rows, models, node) for node in all_nodes(chosen)}
    return {node: release for node, release in releases.items() if release[0].count(None) <= max_suppressed}


def takes(name, case):
    """The case's factor and weights as far as the metric takes them."""
    *_, factor, weights = case
    factor = factor if QUALITIES[name].factor and not (name == "average_class_size" and factor == 0.0) else 0.5
    return factor, weights if QUALITIES[name].weights else {}


def plain_scores(name, case, releases):
    chosen, rows, *_ = case
    return {
        node: plain_score(name, chosen, rows, node, released, texts, *takes(name, case))
        for node, (released, texts) in releases.items()
    }


@given(case=cases())
def test_the_search_finds_what_brute_force_finds(case):
    chosen, rows, models, max_suppressed, *_ = case
    releases = feasible(case)
    data, target = encoded_case(chosen, rows)
    for name, entry in QUALITIES.items():
        factor, weights = takes(name, case)
        problem = problem_of(
            data,
            models,
            max_suppressed=max_suppressed,
            factor=factor,
            weights=column_weights([h.name for h in chosen], weights),
            target=target,
        )
        found = class_search(data, entry.build(problem), models, max_suppressed=max_suppressed)
        chosen_search = find_optimum(
            data,
            models,
            quality=name,
            max_suppressed=max_suppressed,
            weights=weights if entry.weights else None,
            suppression_factor=factor,
            target="answer" if entry.target else None,
        )
        assert (found is None) == (chosen_search is None), name
        if found is not None:
            assert (found.node, found.n_suppressed) == (chosen_search.node, chosen_search.n_suppressed), name
            assert found.score == pytest.approx(chosen_search.score, rel=1e-10, abs=1e-12), name
        assert (found is None) == (not releases), name
        if found is None:
            continue
        scores = plain_scores(name, case, releases)
        least = min(scores.values())
        # The first of the best in lexicographic order.
        expected = next(node for node, score in scores.items() if score <= least + 1e-10 * max(1, abs(least)))
        assert (found.node, found.n_suppressed) == (expected, releases[expected][0].count(None)), name
        assert found.score == pytest.approx(scores[expected], rel=1e-10, abs=1e-12), name
        assert found.n_checked <= len(all_nodes(chosen)), name


def broken_bounds(case):
    """How many bounds of each metric are above the score of a feasible node that they speak of."""
    chosen, rows, models, max_suppressed, *_ = case
    data, target = encoded_case(chosen, rows)
    view = NodeView(data, models, max_suppressed)
    seen = [view.classes(node)[:2] for node in all_nodes(chosen)]
    releases = feasible(case)
    broken = Counter()
    for name, entry in QUALITIES.items():
        slack = np.full(data.shape, np.inf)
        for node, score in plain_scores(name, case, releases).items():
            slack[node] = score + 1e-9 * max(1.0, abs(score))
        factor, weights = takes(name, case)
        quality = entry.build(
            problem_of(
                data,
                models,
                max_suppressed=max_suppressed,
                factor=factor,
                weights=column_weights([h.name for h in chosen], weights),
                target=target,
            )
        )
        broken[name] += int((quality.prior() > slack).sum())
        for classes, n_below in seen:
            up_set = tuple(slice(level, None) for level in classes.node)
            down_set = tuple(slice(0, level + 1) for level in classes.node)
            broken[name] += int((quality.above(classes) > slack[up_set]).sum())
            below = math.inf if n_below > max_suppressed else quality.below(classes)
            broken[name] += int((below > slack[down_set]).sum())
    return broken


@given(case=cases())
def test_no_bound_claims_more_than_the_score_of_any_feasible_node(case):
    broken = broken_bounds(case)
    assert not +broken, broken


def test_a_model_that_claims_to_be_closed_and_is_not_breaks_bounds_of_every_metric():
    # Negative control: rows that are wrongly certain to be suppressed raise the bounds above true scores.
    rng = np.random.default_rng(20)
    tree = tuple((str(i), f"g{i // 2}", "*") for i in range(6))
    chosen = [
        build_hierarchy(Column(n, categories=tuple("012345"), hierarchy=HierarchySpec("rows", rows=tree))) for n in "ab"
    ]
    broken = Counter()
    for _ in range(10):
        rows = [(*(str(v) for v in rng.integers(0, 6, 2)), str(rng.choice(TARGETS))) for _ in range(12)]
        case = chosen, rows, [EvenClasses(downward_closed=True)], 8, 0.5, {}
        broken.update(broken_bounds(case))
    assert all(broken[name] > 0 for name in QUALITIES), broken


def test_tuples_of_the_population_alone_count_nowhere():
    chosen = [build_hierarchy(Column(n, categories=("x", "y", "z"))) for n in "ab"]
    rows = [("x", "y", "yes"), ("x", "y", "no"), ("y", "y", "yes"), ("y", "z", "yes")]
    plain, target = encoded_case(chosen, rows)
    everybody = [np.array(list("xxyyxz"), dtype=object), np.array(list("yyyzzz"), dtype=object)]
    wider, targets = encoded_case(chosen, rows, population=everybody)
    assert wider.n_tuples > plain.n_tuples
    for entry in QUALITIES.values():
        here, there = (
            class_search(
                data,
                entry.build(problem_of(data, [KAnonymity(2)], max_suppressed=2, target=answer)),
                [KAnonymity(2)],
                max_suppressed=2,
            )
            for data, answer in ((plain, target), (wider, targets))
        )
        assert here is not None
        assert there is not None
        assert (here.node, here.n_suppressed) == (there.node, there.n_suppressed)
        assert here.score == pytest.approx(there.score, rel=1e-12)


def test_closed_forms_on_uniform_data():
    # 4 x 2 different values, each once; everything generalised in column a, nothing in b.
    a = build_hierarchy(Column("a", categories=tuple("wxyz")))
    b = build_hierarchy(Column("b", categories=("0", "1")))
    # The class b = 1 has two rows of each answer: no majority, so all of its rows count.
    rows = list(zip("wxyzwxyz", "00001111", ["yes"] * 6 + ["no"] * 2, strict=True))
    data, target = encoded_case([a, b], rows)
    expected = {
        "loss": 0.5,
        "loss_geometric": math.sqrt(2) - 1,
        "precision": 0.5,
        "entropy": 2 / 3,
        "non_uniform_entropy": 16.0,
        "discernibility": 32.0,
        "average_class_size": 4.0,
        "kl_divergence": 0.0,
        "classification": 0.5,
    }
    problem = problem_of(data, [KAnonymity(2)], max_suppressed=0, target=target)
    classes, _, _ = NodeView(data, [KAnonymity(2)], 0).classes((1, 0))
    for name, score in expected.items():
        assert QUALITIES[name].build(problem).score(classes) == pytest.approx(score, abs=1e-12)


def test_weights_are_divided_by_the_largest_and_checked():
    assert column_weights(["a", "b", "c"], None).tolist() == [1.0, 1.0, 1.0]
    assert column_weights(["a", "b"], {"a": 0.5}).tolist() == [0.5, 1.0]
    assert column_weights(["a", "b"], {"a": 5.0}).tolist() == [1.0, 0.2]
    for bad, rule in [
        ({"z": 1.0}, "'z'.*no quasi-identifier"),
        ({"a": -1.0}, "'a' must be a number >= 0"),
        ({"a": math.nan}, "'a' must be a number >= 0"),
        ({"a": math.inf}, "'a' must be a number >= 0"),
        ({"a": 0.0, "b": 0.0}, "not all be 0"),
    ]:
        with pytest.raises(ValueError, match=rule):
            column_weights(["a", "b"], bad)


def test_a_lattice_that_is_too_large_is_refused_before_anything_is_allocated():
    chosen = [
        build_hierarchy(
            Column(f"q{i}", kind="integer", bounds=(0, 127), hierarchy=HierarchySpec("interval", (2, 4, 8, 16, 32, 64)))
        )
        for i in range(10)
    ]
    data = encode_table([pd.Series([1, 2, 3])] * 10, chosen)
    with pytest.raises(LatticeTooLarge, match=r"1073741824 combinations"):
        find_optimum(data, [KAnonymity(2)], quality="discernibility", max_suppressed=0)


@pytest.mark.parametrize(
    ("quality", "given_", "rule"),
    [
        ("nothing", {}, "quality must be one of average_class_size, classification"),
        ("loss", {"suppression_factor": 1.5}, r"suppression_factor must be in \[0, 1\]"),
        ("loss", {"suppression_factor": math.nan}, r"suppression_factor must be in \[0, 1\]"),
        ("discernibility", {"weights": {"a": 1.0}}, "takes no weights; loss"),
        ("kl_divergence", {"suppression_factor": 0.4}, "takes no factor; loss"),
        ("average_class_size", {"suppression_factor": 0.0}, "suppression_factor > 0"),
        ("classification", {}, "needs target"),
        ("loss", {"target": "answer"}, "only quality=.classification. takes a target"),
    ],
)
def test_what_a_metric_cannot_be_told_is_refused(quality, given_, rule):
    arguments = {"weights": None, "suppression_factor": 0.5, "target": None, **given_}
    with pytest.raises(ValueError, match=rule):
        check_quality(quality, **arguments)


def test_many_classes_with_many_values_are_counted_as_pairs(monkeypatch):
    rng = np.random.default_rng(3)
    chosen = [build_hierarchy(Column(n, categories=tuple("abcdef"))) for n in "xy"]
    rows = [
        (str(rng.choice(list("abcdef"))), str(rng.choice(list("abc"))), str(rng.choice(TARGETS))) for _ in range(60)
    ]
    data, _ = encoded_case(chosen, rows)
    arguments = {"quality": "classification", "max_suppressed": 9, "target": "answer"}
    dense = find_optimum(data, [KAnonymity(3)], **arguments)
    monkeypatch.setattr(classification, "_CELLS", 0)
    assert find_optimum(data, [KAnonymity(3)], **arguments) == dense


def trees(*names):
    rows = [[str(i), f"g{i // 2}", "*"] for i in range(6)]
    return {n: {"role": "quasi-identifier", "categories": list("012345"), "hierarchy": {"rows": rows}} for n in names}


@pytest.mark.parametrize("name", QUALITIES)
def test_a_release_of_least_loss_is_found_scored_and_checked_through_the_door(name):
    schema = Schema.from_dict({"columns": {**trees("a", "b"), "answer": {"categories": list(TARGETS)}}})
    rng = np.random.default_rng(11)
    frame = pd.DataFrame({n: rng.integers(0, 6, 80).astype(str) for n in "ab"})
    frame["answer"] = rng.choice(TARGETS, 80)
    chosen = [build_hierarchy(schema.column(n)) for n in "ab"]
    entry = QUALITIES[name]
    given_ = {
        **({"weights": {"a": 2.0}} if entry.weights else {}),
        **({"suppression_factor": 0.3} if entry.factor else {}),
        **({"target": "answer"} if entry.target else {}),
    }
    result = anonymise(frame, schema, models=[KAnonymity(4)], suppression_limit=0.2, quality=name, **given_)
    node = tuple(result.node.values())
    rows = list(frame.itertuples(index=False, name=None))
    case = chosen, rows, [KAnonymity(4)], 16, given_.get("suppression_factor", 0.5), given_.get("weights", {})
    scores = plain_scores(name, case, feasible(case))
    assert result.score == pytest.approx(min(scores.values()), rel=1e-10)
    assert result.score == pytest.approx(scores[node], rel=1e-10)
    assert min(Counter(result.table[["a", "b"]].itertuples(index=False)).values()) >= 4
    assert result.suppressed == 80 - len(result.table)


def test_weights_and_factor_move_the_optimum_the_way_they_say():
    schema = Schema.from_dict({"columns": trees("a", "b")})
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({n: rng.integers(0, 6, 60).astype(str) for n in "ab"})
    arguments = {"models": [KAnonymity(5)], "suppression_limit": 0.5}
    heavy_a = anonymise(frame, schema, **arguments, weights={"a": 10.0})
    heavy_b = anonymise(frame, schema, **arguments, weights={"b": 10.0})
    assert heavy_a.node["a"] < heavy_b.node["a"]
    assert heavy_b.node["b"] < heavy_a.node["b"]
    suppressed = [
        anonymise(frame, schema, **arguments, quality="precision", suppression_factor=f).suppressed
        for f in (0.1, 0.5, 1.0)
    ]
    assert suppressed == sorted(suppressed, reverse=True)
    assert suppressed[0] > suppressed[2]


def test_a_target_is_a_released_column():
    schema = Schema.from_dict({"columns": trees("a", "b")})
    frame = pd.DataFrame({"a": list("0011"), "b": list("0011")})
    for target in ("a", "z"):
        with pytest.raises(ValueError, match="released unchanged"):
            anonymise(frame, schema, models=[KAnonymity(2)], quality="classification", target=target)


@st.composite
def histories(draw):
    """A table with one to three rows a patient."""
    chosen = [draw(hierarchies(f"q{i}", most_levels=2)) for i in range(draw(st.integers(1, 2)))]
    row = st.tuples(*(st.sampled_from(hierarchy.labels[0]) for hierarchy in chosen))
    patients = draw(st.lists(st.lists(row, min_size=1, max_size=3), min_size=2, max_size=8))
    return chosen, patients, draw(st.integers(0, len(patients) - 1)), draw(st.sampled_from([0.2, 0.5, 0.8]))


@given(histories())
def test_metrics_of_tables_with_several_rows_a_patient(case):
    chosen, patients, max_suppressed, factor = case
    rows = [row for visits in patients for row in visits]
    owners = np.repeat(np.arange(len(patients)), [len(visits) for visits in patients])
    data = encode_histories([np.array(c, dtype=object) for c in zip(*rows, strict=True)], chosen, owners)
    by_node = {}
    for node in all_nodes(chosen):
        _, texts = plain_release(chosen, rows, [], node)
        # A class is the patients who have the same texts, as often.
        seen = [tuple(sorted(texts[at] for at in np.flatnonzero(owners == p))) for p in range(len(patients))]
        sizes = Counter(seen)
        lost = [p for p, history in enumerate(seen) if sizes[history] < 2]
        if len(lost) <= max_suppressed:
            released = [None if owner in lost else cell for owner, cell in zip(owners, texts, strict=True)]
            by_node[node] = released, texts, [size for size in sizes.values() if size >= 2], len(lost)
    for name, entry in QUALITIES.items():
        f = factor if entry.factor else 0.5
        arguments = {"quality": name, "max_suppressed": max_suppressed, "suppression_factor": f}
        if entry.target or name == "kl_divergence" or (name in ("precision", "entropy") and f < 0.5):
            if not entry.target:
                with pytest.raises(NotAnonymisable, match="one row a patient"):
                    find_optimum(data, [KAnonymity(2)], **arguments)
            continue
        scores = {}
        for node, (released, texts, sizes, n_lost) in by_node.items():
            if name == "discernibility":
                scores[node] = sum(size**2 for size in sizes) + len(patients) * n_lost
            elif name == "average_class_size":
                g, s = min(1, 2 - 2 * f), min(1, 2 * f)
                scores[node] = len(patients) / (s * len(sizes) + (g if n_lost else 0))
            else:
                scores[node] = plain_score(name, chosen, rows, node, released, texts, f, {})
        found = find_optimum(data, [KAnonymity(2)], **arguments)
        assert (found is None) == (not scores), name
        if found is not None:
            least = min(scores.values())
            expected = next(node for node, score in scores.items() if score <= least + 1e-10 * max(1, abs(least)))
            assert (found.node, found.n_suppressed) == (expected, by_node[expected][3]), name
            assert found.score == pytest.approx(scores[expected], rel=1e-10, abs=1e-12), name


@pytest.mark.parametrize("name", ["discernibility", "loss_geometric", "kl_divergence"])
def test_a_search_that_is_stopped_reports_a_bound_that_holds(name, monkeypatch):
    tree = tuple((str(i), f"g{i // 2}", f"h{i // 4}", "*") for i in range(8))
    chosen = [
        build_hierarchy(Column(n, categories=tuple("01234567"), hierarchy=HierarchySpec("rows", rows=tree)))
        for n in "abc"
    ]
    rng = np.random.default_rng(1)
    data = encode_table([np.array([str(v) for v in rng.integers(0, 8, 150)], dtype=object) for _ in "abc"], chosen)
    arguments = {"quality": name, "max_suppressed": 20}
    best = find_optimum(data, [KAnonymity(4)], **arguments)
    assert best.proven
    gaps = []
    for steps in (1, 5, 20, 10_000):
        clock = iter(range(100_000))
        monkeypatch.setattr(class_search_module.time, "monotonic", lambda clock=clock: float(next(clock)))
        reports = []
        found = find_optimum(data, [KAnonymity(4)], **arguments, time_limit=steps, progress=reports.append)
        assert found.bound <= best.score + 1e-9 <= found.score + 2e-9
        assert all(report.bound <= best.score + 1e-9 for report in reports)
        gaps.append(found.gap)
    assert gaps[0] > 0
    assert gaps[-1] == 0
    late = itertools.count(0, 100)
    monkeypatch.setattr(class_search_module.time, "monotonic", lambda: next(late))
    with pytest.raises(TimeLimitReached):
        find_optimum(data, [KAnonymity(4)], **arguments, time_limit=1)
