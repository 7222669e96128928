"""The model's file: it comes back as it was, and nothing else is taken for one."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from generators import MST, ChowLiu, Domain, GraphicalModel, Measurement, ModelFileInvalid, Schema
from generators.junction_tree import JunctionTree
from generators.propagation import propagate
from privacy import InsecureSeededRng

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def model(clinic_schema, clinic_patients) -> GraphicalModel:
    return MST(epsilon=3.0, delta=1e-9).fit(clinic_patients, clinic_schema, rng=InsecureSeededRng(1))


@pytest.fixture
def saved(model, tmp_path):
    path = tmp_path / "model.synthema"
    model.save(path)
    return path


def rewrite(path, change, *, member="model.json"):
    """Replace one member of the archive by what `change` makes of its bytes (None: leave it out)."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    new = change(members.pop(member, b""))
    if new is not None:
        members[member] = new
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def edit_head(path, **changes):
    rewrite(path, lambda data: json.dumps({**json.loads(data), **changes}).encode())


def npy(array, *, allow_pickle=False):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def test_a_model_comes_back_as_it_was(model, saved):
    again = MST.load(saved)
    assert again.schema == model.schema
    assert again.events == model.events
    assert again.edges == model.edges
    assert (again.total, again.fit_gap, again.mechanism, again.neighbours) == (
        model.total,
        model.fit_gap,
        model.mechanism,
        model.neighbours,
    )
    for one, two in zip(again.measurements, model.measurements, strict=True):
        assert one.columns == two.columns
        assert one.noise_std == two.noise_std
        assert np.array_equal(one.values, two.values)
    for columns in (["age"], ["time", "event"], ["sex", "wbc", "time"]):
        for one, two in zip(again.marginal(columns), model.marginal(columns), strict=True):
            assert np.allclose(one, two, rtol=1e-12, equal_nan=True)
    pd.testing.assert_frame_equal(
        again.sample(300, rng=np.random.default_rng(1)), model.sample(300, rng=np.random.default_rng(1))
    )


def test_the_same_model_gives_the_same_bytes_and_no_row_count(model, saved, tmp_path, clinic_frame):
    second = tmp_path / "second.synthema"
    model.save(second)
    assert saved.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(saved) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        head = archive.read("model.json").decode()
    assert str(len(clinic_frame)) not in head


def test_a_model_without_edges_is_saved_as_well(clinic_schema, clinic_frame, tmp_path):
    part = clinic_schema.subset(["sex"])
    ChowLiu(rho=1.0).fit(clinic_frame[["sex"]], part).save(tmp_path / "m")
    assert GraphicalModel.load(tmp_path / "m").edges == ()


@pytest.fixture
def clique_model():
    """A model of two overlapping cliques of three columns, some combinations impossible."""
    schema = Schema.from_dict({"columns": {name: {"categories": ["x", "y", "z"]} for name in "abcd"}})
    tree = JunctionTree.build(Domain.from_schema(schema), [("a", "b", "c"), ("b", "c", "d")])
    rng = np.random.default_rng(1)
    potentials = [rng.normal(0, 2, tree.shape(i)) for i in range(2)]
    potentials[0][0, 1] = -np.inf
    return GraphicalModel(
        schema=schema,
        mechanism="by-hand",
        marginals=propagate(tree, potentials),
        total=400.0,
        measurements=(Measurement(("a", "b", "c"), rng.integers(0, 20, (3, 3, 3)), 2.0),),
        events=(),
        neighbours="add_remove_one",
        fit_gap=0.0,
    )


def test_a_model_of_larger_cliques_comes_back_as_it_was(clique_model, tmp_path):
    clique_model.save(tmp_path / "m")
    again = GraphicalModel.load(tmp_path / "m")
    assert again.cliques == (("a", "b", "c"), ("b", "c", "d"))
    for columns in (["a", "b", "c", "d"], ["d", "a"]):
        one, two = again.marginal(columns), clique_model.marginal(columns)
        assert np.allclose(one.estimate, two.estimate, rtol=1e-12)
    # The triple was measured: a pair of it sums three cells of noise 2, and nothing covers d.
    assert np.allclose(again.marginal(["b", "a"]).std_error, 2.0 * np.sqrt(3))
    assert np.isnan(again.marginal(["d"]).std_error).all()
    table = again.sample(1000, given={"a": "x"}, rng=np.random.default_rng(1))
    assert not (table["b"] == "y").any()
    pd.testing.assert_frame_equal(table, clique_model.sample(1000, given={"a": "x"}, rng=np.random.default_rng(1)))


def test_a_conditional_that_leaves_out_a_separator_that_occurs_is_refused(clique_model, tmp_path):
    path = tmp_path / "model.synthema"
    clique_model.save(path)
    child = clique_model.marginals.tree.children[0]
    array = read_array(path, f"clique_{child}.npy")
    # The separator (b, c) is the last two axes of the first clique, or the first two of the second.
    array[(..., 0, 0) if child == 0 else (0, 0)] = 0.0
    rewrite(path, lambda _: npy(array), member=f"clique_{child}.npy")
    with pytest.raises(ModelFileInvalid, match="do not sum to one"):
        GraphicalModel.load(path)


def test_a_file_of_version_1_is_read():
    # Written by the version before junction trees; the figures are those that it printed.
    model = GraphicalModel.load(DATA / "model-v1.synthema")
    assert model.edges == (("sex", "pregnant"), ("pregnant", "alone"), ("age", "event"))
    assert model.total == pytest.approx(1001.0416666666667)
    for columns, printed in [
        (["sex", "pregnant"], [[367.260019, 144.118498], [489.66315, 0.0]]),
        (["age", "event"], [[291.702523, 60.978032], [87.110552, 73.903337], [123.560699, 363.786523]]),
        (["alone"], [503.609069, 497.432598]),
        (["sex", "event"], [[256.635827, 254.74269], [245.737948, 243.925202]]),
    ]:
        assert np.allclose(model.marginal(columns).estimate, printed, atol=1e-6)
    assert len(model.measurements) == 15
    assert len(model.sample(50)) == 50


@pytest.mark.parametrize(
    "change",
    [{"edges": [["age", "age"]]}, {"edges": []}, {"edges": 3}, {"cliques": []}, {"edges": [["age", "event"]] * 2}],
    ids=str,
)
def test_a_head_of_version_1_that_says_something_else_is_refused(change, tmp_path):
    path = tmp_path / "model.synthema"
    path.write_bytes((DATA / "model-v1.synthema").read_bytes())
    edit_head(path, **change)
    with pytest.raises(ModelFileInvalid, match=r"model\.synthema is no valid model"):
        GraphicalModel.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "synthema-model-v1"},
        {"format": "synthema-model-v3"},
        {"format": ["synthema-model-v2"]},
        {"neighbours": "swap_two"},
        {"cliques": [["age", "age"]]},
        {"cliques": [["age", "hair"]]},
        {"cliques": []},
        {"cliques": [[]]},
        {"cliques": 3},
        {"cliques": [["sex"], ["pregnant"], ["age"], ["wbc"], ["blasts"], ["visits"], ["time", "event"]]},
        {"cliques": [["event", "time"], ["sex"], ["pregnant"], ["age"], ["wbc"], ["blasts"], ["visits"]]},
        {"cliques": [["sex", "pregnant", "age", "wbc", "blasts", "visits", "time", "event"]]},
        {"total": "0.5"},
        {"total": "nan"},
        {"total": 100.0},
        {"fit_gap": "-1.0"},
        {"events": [{"kind": "free_lunch"}]},
        {"schema": {}},
        {"measurements": []},
        {"surprise": 1},
    ],
    ids=str,
)
def test_a_head_that_says_something_else_is_refused(saved, change):
    edit_head(saved, **change)
    with pytest.raises(ModelFileInvalid, match=r"model\.synthema is no valid model"):
        GraphicalModel.load(saved)


def read_array(path, member):
    with zipfile.ZipFile(path) as archive:
        return np.load(io.BytesIO(archive.read(member)), allow_pickle=False)


def with_one_cell(array, value):
    array.flat[0] = value
    return array


def swapped(array):
    """Two cells of a row changed so that its sum stays one, and one of them is negative."""
    row = array.reshape(-1, array.shape[-1])[0]
    row[0], row[1] = row[0] + row[1] + 0.5, -0.5
    return array


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda array: npy(array * 1.01), "do not sum to one"),
        (lambda array: npy(swapped(array)), "negative"),
        (lambda array: npy(with_one_cell(array, np.nan)), "negative or no number"),
        (lambda array: npy(np.zeros_like(array)), "do not sum to one"),
        (lambda array: npy(array[:, :-1]), "another shape"),
        (lambda array: npy(array.ravel()), "another shape"),
        (lambda array: npy(array.astype(np.float32)), "another shape or type"),
        (lambda array: npy(np.asfortranarray(array)), "memory order"),
        (lambda array: npy(array) + b"more", "cut off or too long"),
        (lambda array: npy(array)[:-1], "cut off or too long"),
        (lambda array: npy(array.astype(object), allow_pickle=True), "another shape or type"),
        (lambda _: b"", "wrong kind"),
        (lambda _: b"not an array", "wrong kind"),
    ],
    ids=range(13),
)
def test_an_array_that_is_no_distribution_is_refused(saved, change, reason):
    data = change(read_array(saved, "clique_0.npy"))
    rewrite(saved, lambda _: data, member="clique_0.npy")
    with pytest.raises(ModelFileInvalid, match=reason):
        GraphicalModel.load(saved)


def test_the_same_array_written_again_is_accepted(saved):
    data = npy(read_array(saved, "clique_0.npy"))
    rewrite(saved, lambda _: data, member="clique_0.npy")
    assert GraphicalModel.load(saved).mechanism == "mst"


def test_an_array_that_declares_a_terabyte_is_refused_without_allocating_it(saved):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (1 << 37,)})
    rewrite(saved, lambda _: buffer.getvalue(), member="clique_0.npy")
    with pytest.raises(ModelFileInvalid, match="another shape"):
        GraphicalModel.load(saved)


def test_zeros_that_unpack_to_more_than_memory_are_refused_before_any_is_read(saved, monkeypatch):
    # Each array is within its limit, and a thousandth of its size in the file.
    names = [str(i) for i in range(4096)]
    schema = Schema.from_dict({"columns": {name: {"categories": names} for name in "abcdef"}})
    part = {"columns": ["a", "b"], "noise_std": "1.0", "groups": [None, None]}
    edit_head(
        saved,
        schema=schema.to_dict(),
        cliques=[[name] for name in "abcdef"],
        measurements=[{**part, "columns": list(pair)} for pair in itertools.permutations("abcdef", 2)],
    )
    with zipfile.ZipFile(saved) as archive:
        head = archive.read("model.json")
    with zipfile.ZipFile(saved, "w") as archive:
        archive.writestr("model.json", head)
        for name in [*(f"clique_{i}.npy" for i in range(6)), *(f"measurement_{i}.npy" for i in range(30))]:
            archive.writestr(name, b"")
    monkeypatch.setattr("generators.storage._array", lambda *_: pytest.fail("an array was read"))
    with pytest.raises(ModelFileInvalid, match="arrays are too large"):
        GraphicalModel.load(saved)


def test_a_group_number_of_a_billion_is_refused_without_as_many_groups(saved):
    with zipfile.ZipFile(saved) as archive:
        parts = json.loads(archive.read("model.json"))["measurements"]
    i = next(i for i, part in enumerate(parts) if part["columns"] == ["age"])
    parts[i]["groups"] = [[0, 0, 1, 1, 1 << 40]]
    edit_head(saved, measurements=parts)
    with pytest.raises(ModelFileInvalid, match="DomainMismatch"):
        GraphicalModel.load(saved)


def test_a_clique_of_more_columns_than_an_array_has_axes_is_refused(saved):
    edit_head(saved, cliques=[[str(i) for i in range(65)]])
    with pytest.raises(ModelFileInvalid, match="a clique is too large"):
        GraphicalModel.load(saved)


def test_a_model_that_could_not_be_read_again_is_not_written(model, tmp_path, monkeypatch):
    for limit in ("_MOST_JSON_BYTES", "_MOST_MEMBERS", "_MOST_CELLS"):
        with monkeypatch.context() as patch:
            patch.setattr(f"generators.storage.{limit}", 3)
            with pytest.raises(ModelFileInvalid, match="too large to be read again"):
                model.save(tmp_path / "m")
        assert not (tmp_path / "m").exists()


def test_whatever_is_wrong_with_a_file_the_error_is_the_same_one(saved):
    whole = saved.read_bytes()
    rng = np.random.default_rng(5)
    refused = 0
    for place in rng.integers(0, len(whole), 300):
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(8))
        saved.write_bytes(bytes(broken))
        try:
            GraphicalModel.load(saved)
        except ModelFileInvalid:
            refused += 1
    assert refused > 200
    saved.write_bytes(whole)
    rewrite(saved, lambda data: data[:20] + b"(" + data[21:], member="clique_0.npy")
    with pytest.raises(ModelFileInvalid, match="wrong kind"):
        GraphicalModel.load(saved)


def test_missing_and_additional_members_are_refused(saved):
    rewrite(saved, lambda _: None, member="clique_1.npy")
    with pytest.raises(ModelFileInvalid, match="members are not those"):
        GraphicalModel.load(saved)
    rewrite(saved, lambda _: b"", member="clique_1.npy")
    rewrite(saved, lambda _: b"import os", member="setup.py")
    with pytest.raises(ModelFileInvalid, match="members are not those"):
        GraphicalModel.load(saved)


class _Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the file was unpickled",))


def test_a_pickle_is_never_loaded(saved, tmp_path):
    pickled = tmp_path / "model.pickle"
    pickled.write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(ModelFileInvalid, match="cannot be read as a model file"):
        GraphicalModel.load(pickled)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([_Bomb(), _Bomb()], dtype=object), version=(1, 0), allow_pickle=True)
    rewrite(saved, lambda _: buffer.getvalue(), member="clique_0.npy")
    with pytest.raises(ModelFileInvalid):
        GraphicalModel.load(saved)


def test_a_file_that_is_not_there_or_cut_off_is_refused(saved, tmp_path):
    with pytest.raises(ModelFileInvalid, match="FileNotFoundError"):
        GraphicalModel.load(tmp_path / "nowhere")
    saved.write_bytes(saved.read_bytes()[:200])
    with pytest.raises(ModelFileInvalid):
        GraphicalModel.load(saved)
