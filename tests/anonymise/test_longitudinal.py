import itertools
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_models import NAME, passes
from small_lattices import EvenClasses, hierarchies

from anonymise import (
    GuaranteeBroken,
    KAnonymity,
    NotAnonymisable,
    Schema,
    anonymise,
    build_hierarchy,
    first_visits,
    patient_class_sizes,
    recoding,
)
from anonymise.checking import Checker, failing_tuples
from anonymise.classes import Classes
from anonymise.histories import histories_of, patient_classes
from anonymise.lattice import search
from anonymise.longitudinal import encode_histories
from anonymise.loss import Loss
from anonymise.models import AlphaKAnonymity, BetaLikeness, LDiversity, TCloseness
from privacy.errors import SchemaError
from privacy.schema import Column, HierarchySpec

# Spearman's rho of a random order of n has standard deviation 1 / sqrt(n - 1); five of them.
N_ORDER = 4000
RHO_THRESHOLD = 0.08
# A random order keeps more of 2000 pairs of visits in order than this with p < 1e-6 (normal: 4.9 standard deviations).
KEPT_THRESHOLD = 0.5 + 4.9 * 0.5 / np.sqrt(2000)


@st.composite
def tables(draw):
    """Hierarchies, rows, and the patient of each row: few values, so that histories coincide."""
    chosen = [
        draw(hierarchies(f"q{i}", most_leaves=4, most_levels=2, ends_in_one=True))
        for i in range(draw(st.integers(1, 3)))
    ]
    n_rows = draw(st.integers(2, 16))
    row = st.tuples(*(st.sampled_from(hierarchy.labels[0]) for hierarchy in chosen))
    rows = draw(st.lists(row, min_size=n_rows, max_size=n_rows))
    return chosen, rows, draw(st.lists(st.integers(0, 7), min_size=n_rows, max_size=n_rows))


def encoded(chosen, rows, owners):
    columns = [pd.Series(column, dtype=object) for column in zip(*rows, strict=True)]
    return encode_histories(columns, chosen, pd.factorize(np.array(owners))[0].astype(np.int64))


def generalised(chosen, rows, node):
    """Each row's cells and its loss at a node, by lists of labels and fractions."""
    out = []
    for row in rows:
        cells, loss = [], Fraction(0)
        for hierarchy, level, value in zip(chosen, node, row, strict=True):
            texts = [hierarchy.labels[level][code] for code in hierarchy.codes[level]]
            text = texts[hierarchy.labels[0].index(value)]
            cells.append(text)
            if len(texts) > 1:
                share = Fraction(texts.count(text), len(texts))
                loss += (share - Fraction(1, len(texts))) / (1 - Fraction(1, len(texts)))
        out.append((tuple(cells), loss / len(chosen)))
    return out


def multisets(cells, owners):
    """Each patient's rows as a sorted tuple."""
    return {owner: tuple(sorted(c for c, o in zip(cells, owners, strict=True) if o == owner)) for owner in set(owners)}


def failing_patients(chosen, rows, owners, models, node):
    histories = multisets([cells for cells, _ in generalised(chosen, rows, node)], owners)
    sizes = Counter(histories.values())
    return {
        owner
        for owner, history in histories.items()
        if any(m.class_fails(Classes(np.array([sizes[history]]), n_rows=len(histories)))[0] for m in models)
    }


def brute_force(chosen, rows, owners, models, max_suppressed):
    """Every node; the lexicographically first of the exactly best ones. Patients are suppressed, rows are lost."""
    best = None
    for node in itertools.product(*(range(hierarchy.n_levels) for hierarchy in chosen)):
        gone = failing_patients(chosen, rows, owners, models, node)
        if len(gone) > max_suppressed:
            continue
        losses = [loss for _, loss in generalised(chosen, rows, node)]
        total = sum((Fraction(1) if o in gone else x for x, o in zip(losses, owners, strict=True)), Fraction(0))
        if best is None or total / len(rows) < best[1]:
            best = node, total / len(rows), len(gone)
    return best


@given(tables(), st.integers(2, 3), st.integers(0, 8), st.booleans())
def test_the_search_finds_what_brute_force_over_multisets_finds(table, k, max_suppressed, with_even_classes):
    chosen, rows, owners = table
    models = [KAnonymity(k), EvenClasses()] if with_even_classes else [KAnonymity(k)]
    expected = brute_force(chosen, rows, owners, models, max_suppressed)
    found = search(encoded(chosen, rows, owners), Loss.of(chosen), models, max_suppressed=max_suppressed)
    if expected is None:
        assert found is None
    else:
        assert (found.node, found.n_suppressed) == (expected[0], expected[2])
        assert found.score == pytest.approx(float(expected[1]), abs=1e-13)


SENSITIVE_MODELS = [
    LDiversity(2, attribute=NAME),
    LDiversity(1.5, attribute=NAME, kind="entropy"),
    LDiversity(2, attribute=NAME, kind="recursive", c=1.5),
    TCloseness(0.3, attribute=NAME, distance="equal"),
    BetaLikeness(1, attribute=NAME, kind="basic"),
    AlphaKAnonymity(0.6, 2, attribute=NAME),
]


@given(
    tables(), st.lists(st.integers(0, 2), min_size=8, max_size=8), st.sampled_from(SENSITIVE_MODELS), st.integers(0, 8)
)
def test_models_on_sensitive_columns_count_patients_as_their_definitions_do(table, genotypes, model, max_suppressed):
    chosen, rows, owners = table
    genotype = build_hierarchy(Column(NAME, categories=tuple("abc")))
    data = encode_histories(
        [pd.Series(column, dtype=object) for column in zip(*rows, strict=True)],
        chosen,
        pd.factorize(np.array(owners))[0].astype(np.int64),
        sensitive={NAME: [(pd.Series(["abc"[genotypes[owner]] for owner in owners]), genotype)]},
    )
    overall = [sum(genotypes[owner] == value for owner in set(owners)) for value in range(3)]
    best = None
    for node in itertools.product(*(range(hierarchy.n_levels) for hierarchy in chosen)):
        cells = generalised(chosen, rows, node)
        histories = multisets([cell for cell, _ in cells], owners)
        gone = set()
        for history in set(histories.values()):
            members = [owner for owner in histories if histories[owner] == history]
            if not passes(model, [sum(genotypes[o] == v for o in members) for v in range(3)], overall, genotype):
                gone.update(members)
        if len(gone) <= max_suppressed:
            total = sum((Fraction(1) if o in gone else x for (_, x), o in zip(cells, owners, strict=True)), Fraction(0))
            if best is None or total / len(rows) < best[1]:
                best = node, total / len(rows), len(gone)
    found = search(data, Loss.of(chosen), [model], max_suppressed=max_suppressed)
    assert (found and (found.node, found.n_suppressed)) == (best and (best[0], best[2]))
    assert found is None or found.score == pytest.approx(float(best[1]), abs=1e-13)


def test_brute_force_would_notice_a_search_that_counts_rows():
    # Negative control: the same rows, each its own patient.
    rng = np.random.default_rng(4)
    leaves = tuple((str(i), f"g{i // 2}", "*") for i in range(4))
    chosen = [
        build_hierarchy(Column(n, categories=tuple("0123"), hierarchy=HierarchySpec("rows", rows=leaves))) for n in "ab"
    ]
    wrong = 0
    for _ in range(10):
        rows = [tuple(str(v) for v in rng.integers(0, 4, 2)) for _ in range(16)]
        owners = rng.integers(0, 8, 16).tolist()
        found = search(encoded(chosen, rows, range(16)), Loss.of(chosen), [KAnonymity(2)], max_suppressed=2)
        expected = brute_force(chosen, rows, owners, [KAnonymity(2)], 2)
        wrong += found.node != (expected and expected[0])
    assert wrong > 5


@given(tables(), st.integers(2, 3))
def test_at_every_node_exactly_the_patients_in_small_classes_fail_and_fewer_above(table, k):
    chosen, rows, owners = table
    data = encoded(chosen, rows, owners)
    failing = {}
    for node in itertools.product(*(range(levels) for levels in data.shape)):
        fails = failing_tuples(data, [KAnonymity(k)], node)[data.row_entry]
        failing[node] = {owner for owner, gone in zip(owners, fails, strict=True) if gone}
        assert failing[node] == failing_patients(chosen, rows, owners, [KAnonymity(k)], node)
    for low, high in itertools.product(failing, repeat=2):
        if all(a <= b for a, b in zip(low, high, strict=True)):
            assert failing[high] <= failing[low]


@given(tables())
def test_equal_histories_stay_equal_at_every_more_general_node(table):
    chosen, rows, owners = table
    nodes = list(itertools.product(*(range(hierarchy.n_levels) for hierarchy in chosen)))
    histories = {n: multisets([cells for cells, _ in generalised(chosen, rows, n)], owners) for n in nodes}
    for low, high in itertools.product(nodes, repeat=2):
        if all(a <= b for a, b in zip(low, high, strict=True)):
            for one, other in itertools.combinations(set(owners), 2):
                assert histories[low][one] != histories[low][other] or histories[high][one] == histories[high][other]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=60), st.integers(4, 10**6))
def test_classes_of_histories_are_equal_multisets(rows, size):
    owners = pd.factorize(np.array([owner for owner, _ in rows]))[0].astype(np.int64)
    items = np.array([item for _, item in rows])
    histories, place = histories_of(np.arange(items.size), owners, int(owners.max()) + 1)
    found, bound = histories.classes(items, size)
    assert found.max() < bound
    bags = [tuple(sorted(items[owners == owner].tolist())) for owner in range(int(owners.max()) + 1)]
    for one, other in itertools.combinations(range(len(bags)), 2):
        assert (found[place[one]] == found[place[other]]) == (bags[one] == bags[other])
    classes = patient_classes([items], owners)
    assert [classes.tolist().index(c) for c in classes] == [bags.index(bag) for bag in bags]
    assert sorted(patient_class_sizes([items], owners)) == sorted(Counter(bags).values())


def test_risk_sizes_of_no_rows_are_none():
    assert patient_class_sizes([np.empty(0, dtype=np.int64)], np.empty(0, dtype=np.int64)).size == 0


# ---------------------------------------------------------------- the release


def clinic(**more):
    columns = {
        "mrn": {"role": "identifier"},
        "age": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 99], "hierarchy": {"interval": [10, 50]}},
        "sex": {"role": "quasi-identifier", "categories": ["F", "M"]},
        "ward": {"role": "quasi-identifier", "categories": ["A", "B", "C", "D"]},
        "genotype": {"role": "sensitive", "categories": ["HbSS", "HbSC"]},
        "hb": {"role": "insensitive", "kind": "integer", "bounds": [0, 10**6]},
    }
    return Schema.from_dict({"table": {"name": "clinic", "patient_id": "mrn"}, "columns": columns | more})


def visits(n_patients=40, n_visits=3, seed=3):
    rng = np.random.default_rng(seed)
    n = n_patients * n_visits
    of = np.repeat(np.arange(n_patients), n_visits)
    frame = pd.DataFrame(
        {
            "mrn": [f"MRN-{i:05d}" for i in of],
            "age": rng.integers(20, 90, n_patients)[of],
            "sex": np.array(["F", "M"])[rng.integers(0, 2, n_patients)][of],
            "ward": np.array(list("ABCD"))[np.minimum(rng.geometric(0.7, n) - 1, 3)],
            "genotype": np.array(["HbSS", "HbSC"])[rng.integers(0, 2, n_patients)][of],
            "hb": np.arange(n),
        }
    )
    return frame.iloc[rng.permutation(n)].reset_index(drop=True)


def some(frame=None, schema=None, *, k=3, **more):
    return anonymise(visits() if frame is None else frame, schema or clinic(), models=[KAnonymity(k)], **more)


def bags_of(frame, names=("age", "sex", "ward")):
    return {
        number: tuple(sorted(map(tuple, rows[list(names)].astype(str).to_numpy().tolist())))
        for number, rows in frame.groupby("mrn")
    }


@pytest.mark.parametrize("limit", [0.0, 0.1, 0.5])
def test_whoever_knows_all_visits_of_a_patient_finds_k_released_patients_or_none(limit):
    frame = visits()
    result = some(frame, suppression_limit=limit)
    released = Counter(bags_of(result.table).values())
    assert min(released.values()) >= 3
    assert result.table["mrn"].nunique() == 40 - result.suppressed
    assert len(result.table) == 3 * (40 - result.suppressed)
    assert result.suppressed <= int(40 * limit)
    # The attacker generalises what is known of each patient with the public hierarchies and looks it up.
    known = frame.copy()
    for name, level in result.node.items():
        hierarchy = build_hierarchy(clinic().column(name))
        known[name] = [
            hierarchy.labels[level][hierarchy.codes[level][hierarchy.encode(np.array([v]))[0]]] for v in frame[name]
        ]
    found = [released.get(bag, 0) for bag in bags_of(known).values()]
    assert not [n for n in found if 0 < n < 3]
    assert sum(n > 0 for n in found) == 40 - result.suppressed


def test_rows_that_are_anonymous_by_themselves_are_not_enough():
    # Each row occurs three times, but each patient's pair of wards is unique.
    frame = pd.DataFrame({"mrn": ["p", "p", "q", "q", "r", "r"], "ward": ["A", "B", "B", "C", "C", "A"]})
    schema = clinic().subset(["mrn", "ward"])
    assert dict(some(frame, schema, k=2).node) == {"ward": 1}
    assert dict(some(frame.assign(mrn=list("pqrstu")), schema, k=2).node) == {"ward": 0}


def test_a_patient_with_another_number_of_visits_stands_alone():
    frame = pd.DataFrame({"mrn": list("ppqqrrs"), "ward": ["A"] * 7})
    schema = clinic().subset(["mrn", "ward"])
    with pytest.raises(NotAnonymisable, match="no combination of levels"):
        some(frame, schema, k=2)
    result = some(frame, schema, k=2, suppression_limit=0.25)
    assert (result.suppressed, len(result.table), result.score) == (1, 6, pytest.approx(1 / 7))
    capped = first_visits(frame.assign(day="2024-01-01"), 1, patient="mrn", by="day").drop(columns="day")
    assert len(some(capped, schema, k=2).table) == 4


def test_the_suppression_limit_counts_patients_and_the_loss_rows():
    # Of 5 patients, one with 6 of 10 rows is different: 20 % of patients, 60 % of rows.
    frame = pd.DataFrame({"mrn": ["x"] * 6 + list("abcd"), "ward": ["D"] * 6 + ["A"] * 4})
    schema = clinic().subset(["mrn", "ward"])
    result = some(frame, schema, k=2, suppression_limit=0.2)
    assert (result.suppressed, result.score) == (1, pytest.approx(0.6))
    with pytest.raises(NotAnonymisable):
        some(frame, schema, k=2, suppression_limit=0.19)


def test_a_patient_who_lacks_a_value_in_one_row_is_left_out_with_all_rows_and_these_are_lost():
    # Of 5 patients, one lacks a ward in one of 6 rows; 4 of 10 rows are left.
    frame = pd.DataFrame({"mrn": ["x"] * 6 + list("abcd"), "ward": ["A"] * 5 + [None] + ["A"] * 4})
    ward = {"role": "quasi-identifier", "categories": ["A", "B"], "nullable": True}
    schema = clinic(ward={**ward, "missing": "suppress"}).subset(["mrn", "ward"])
    result = some(frame, schema, k=2, suppression_limit=0.2)
    assert (result.suppressed, len(result.table), result.score) == (1, 4, pytest.approx(0.6))
    with pytest.raises(NotAnonymisable, match="lack a value"):
        some(frame, schema, k=2, suppression_limit=0.19)
    with pytest.raises(NotAnonymisable, match="'wildcard' has no meaning"):
        some(frame, clinic(ward={**ward, "missing": "wildcard"}).subset(["mrn", "ward"]), k=2, suppression_limit=0.2)


def test_released_numbers_are_fresh_and_rows_of_a_patient_stand_together_in_random_order():
    n = N_ORDER // 2
    frame = pd.DataFrame({"mrn": np.repeat(np.arange(n), 2), "ward": "A", "hb": np.arange(N_ORDER)})
    table = some(frame, clinic().subset(["mrn", "ward", "hb"])).table
    numbers = table["mrn"].to_numpy()
    assert numbers.tolist() == np.repeat(np.arange(1, n + 1), 2).tolist()
    assert (table["hb"].to_numpy().reshape(-1, 2) // 2 == table["hb"].to_numpy()[::2, None] // 2).all()
    original = pd.Series(table["hb"] // 2)
    assert abs(original.corr(pd.Series(numbers), method="spearman")) < RHO_THRESHOLD
    first_came_first = (table["hb"].to_numpy()[::2] % 2 == 0).mean()
    assert abs(first_came_first - 0.5) < KEPT_THRESHOLD - 0.5
    # Negative control: a source that shuffles nothing is caught by both.
    table = some(frame, clinic().subset(["mrn", "ward", "hb"]), rng=Unshuffled()).table
    assert (table["hb"] // 2).corr(table["mrn"], method="spearman") > RHO_THRESHOLD
    assert (table["hb"].to_numpy()[::2] % 2 == 0).mean() > KEPT_THRESHOLD


class Unshuffled:
    """A random source that is none."""

    def permutation(self, n):
        return np.arange(n)


def test_numbers_have_no_gaps_where_patients_were_left_out():
    result = some(suppression_limit=0.5)
    assert sorted(result.table["mrn"].unique()) == list(range(1, 41 - result.suppressed))
    assert not set(map(str, result.table["mrn"])) & set(visits()["mrn"])


def test_one_row_a_patient_is_released_as_ever_without_numbers():
    frame = visits(n_visits=1)
    with_id, without = some(frame), some(frame.drop(columns="mrn"), clinic().subset(set(clinic().names) - {"mrn"}))
    assert "mrn" not in with_id.table
    assert (with_id.node, with_id.score) == (without.node, without.score)


@pytest.mark.parametrize("limit", [0.0, 0.3])
def test_equal_visits_give_the_node_of_the_table_without_them(limit):
    once = visits(n_visits=1)
    often = pd.concat([once, once, once])
    one, three = some(once, suppression_limit=limit), some(often, suppression_limit=limit)
    assert (one.node, one.suppressed) == (three.node, three.suppressed)
    assert one.score == pytest.approx(three.score, abs=1e-12)


def test_static_columns_that_vary_are_refused_by_name():
    frame = visits()
    assert some(frame, static=["sex", "age"]).table is not None
    frame.loc[frame.index[frame["mrn"] == "MRN-00007"][0], ["sex", "age"]] = ["F" if frame["sex"][0] == "M" else "M", 1]
    frame.loc[frame.index[frame["mrn"] == "MRN-00007"][1], ["sex"]] = ["F" if frame["sex"][0] == "F" else "M"]
    with pytest.raises(SchemaError) as caught:
        some(frame, static=["sex", "age", "none"])
    assert [problem.column for problem in caught.value.problems] == ["sex", "age", "none"]
    assert "static, but a patient has several values" in str(caught.value)
    assert "MRN" not in str(caught.value)


def test_static_without_patients_is_a_mistake():
    schema = clinic().subset(set(clinic().names) - {"mrn"})
    with pytest.raises(ValueError, match="static"):
        some(visits(n_visits=1).drop(columns="mrn"), schema, static=["sex"])


@dataclass(frozen=True)
class TwoGenotypes:
    """Distinct 2-diversity of the genotype, for this test."""

    attribute: str = "genotype"
    downward_closed: bool = True
    monotone: bool = True
    least_rows: int = 2
    needs_population: bool = False

    def class_fails(self, classes):
        return (classes.counts(self.attribute) > 0).sum(axis=1) < 2

    def least_lost(self, classes):
        return classes.sizes


def test_a_sensitive_attribute_counts_one_value_a_patient():
    frame = visits()
    result = anonymise(frame, clinic(), models=[KAnonymity(3), TwoGenotypes()], suppression_limit=0.5)
    bags = bags_of(result.table)
    genotypes = {number: set(rows["genotype"]) for number, rows in result.table.groupby("mrn")}
    for bag in set(bags.values()):
        members = [number for number in bags if bags[number] == bag]
        assert len(set.union(*(genotypes[number] for number in members))) == 2
    checker = Checker(
        encode_histories(
            [frame["ward"]],
            [build_hierarchy(clinic().column("ward"))],
            pd.factorize(frame["mrn"])[0].astype(np.int64),
            sensitive={"genotype": [(frame["genotype"], build_hierarchy(clinic().column("genotype")))]},
        ),
        [TwoGenotypes()],
    )
    per_patient = frame.drop_duplicates("mrn")["genotype"].value_counts()
    attribute = checker.encoded.attributes["genotype"]
    assert attribute.overall.tolist() == [per_patient["HbSS"], per_patient["HbSC"]]
    assert attribute.counts.sum() == 40


def test_a_model_on_an_attribute_that_varies_is_refused():
    frame = visits()
    frame.loc[0, "genotype"] = "HbSC" if frame["genotype"][0] == "HbSS" else "HbSS"
    with pytest.raises(NotAnonymisable, match="column 'genotype': a patient has several values") as caught:
        anonymise(frame, clinic(), models=[KAnonymity(3), TwoGenotypes()])
    assert "HbS" not in str(caught.value)
    assert some(frame).table is not None  # Without a model on it, it may vary.


def test_what_longitudinal_tables_cannot_have_is_refused():
    with pytest.raises(ValueError, match="leave population out"):
        some(population=visits())
    frame = visits()
    frame.loc[0, "mrn"] = None
    with pytest.raises((SchemaError, ValueError), match="column 'mrn'"):
        some(frame)
    with pytest.raises(NotAnonymisable, match="fewer patients"):
        some(visits(n_patients=2, n_visits=9))


def test_ids_that_differ_in_blanks_only_are_one_patient():
    frame = pd.DataFrame({"mrn": ["p", " p", "q", "q "], "ward": ["A", "B", "B", "A"]})
    table = some(frame, clinic().subset(["mrn", "ward"]), k=2).table
    assert sorted(table["mrn"]) == [1, 1, 2, 2]


def test_a_release_that_would_break_its_guarantee_is_withheld(monkeypatch):
    monkeypatch.setattr(recoding, "failing_tuples", lambda encoded, *_: np.zeros(encoded.n_entries, dtype=bool))
    with pytest.raises(GuaranteeBroken, match=r"KAnonymity\(k=3\)"):
        some(suppression_limit=0.5)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.none() | st.integers(1, 28)), min_size=1, max_size=30), st.integers(1, 4)
)
def test_first_visits_are_the_first_by_date(rows, n):
    frame = pd.DataFrame(
        {"mrn": [row[0] for row in rows], "day": [row[1] and f"2024-02-{row[1]:02d}" for row in rows]}, dtype=object
    )
    found = first_visits(frame, n, patient="mrn", by="day")
    expected = []
    for patient in range(5):
        mine = [at for at, row in enumerate(rows) if row[0] == patient]
        expected += sorted(mine, key=lambda at: (rows[at][1] is None, rows[at][1], at))[:n]
    assert found.index.tolist() == sorted(expected)


def test_first_visits_refuses_what_is_no_number_or_column():
    frame = pd.DataFrame({"mrn": [1], "day": ["2024-01-01"]})
    with pytest.raises(ValueError, match="n must be"):
        first_visits(frame, 0, patient="mrn", by="day")
    with pytest.raises(SchemaError, match="column 'none'"):
        first_visits(frame, 1, patient="mrn", by="none")
