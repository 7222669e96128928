"""The model's file: it comes back as it was, and nothing else is taken for one."""

from __future__ import annotations

import io
import json
import pickle
import zipfile

import numpy as np
import pandas as pd
import pytest

from generators import MST, ChowLiu, GraphicalModel, ModelFileInvalid
from privacy import InsecureSeededRng


@pytest.fixture
def model(clinic_schema, clinic_frame) -> GraphicalModel:
    return MST(epsilon=3.0, delta=1e-9).fit(clinic_frame, clinic_schema, rng=InsecureSeededRng(1))


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


@pytest.mark.parametrize(
    "change",
    [
        {"format": "synthema-model-v1"},
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


def test_a_separator_that_occurs_needs_a_conditional(model, saved):
    tree = model.marginals.tree
    child = tree.children[0]
    array = read_array(saved, f"clique_{child}.npy")
    rewrite(saved, lambda _: npy(np.zeros_like(array)), member=f"clique_{child}.npy")
    with pytest.raises(ModelFileInvalid, match="do not sum to one"):
        GraphicalModel.load(saved)


def test_an_array_that_declares_a_terabyte_is_refused_without_allocating_it(saved):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (1 << 37,)})
    rewrite(saved, lambda _: buffer.getvalue(), member="clique_0.npy")
    with pytest.raises(ModelFileInvalid, match="another shape"):
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
