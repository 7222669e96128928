"""The file of a model: `model.json` and one .npy file for each array, in a zip archive. Nothing is ever unpickled.

Reading trusts nothing: members, sizes, types and shapes must be those that the schema in the file implies, and the
marginals must be marginals of one distribution. Each clique is stored as P(rest of the clique | separator), so that
whatever passes the checks on single arrays is a distribution; at a root the separator is empty.

Version 1 knew forests of pairs only: it stored edges, and for each column P(column | parent). It is read, because its
budget is spent, and written no more.
"""

from __future__ import annotations

import io
import json
import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from generators.domain import Clique, Domain
from generators.errors import GeneratorError, ModelFileInvalid
from generators.factor import FloatArray
from generators.forest import Forest, clique_marginals
from generators.forest import compose as compose_forest
from generators.grouping import Group, check_groups, coarse_domain
from generators.junction_tree import JunctionTree, in_domain_order
from generators.marginals import MAX_CELLS
from generators.model import GraphicalModel
from generators.oracle import Measurement
from generators.propagation import CliqueMarginals, compose
from privacy import PrivacyError, Schema, event_from_json, event_to_json
from privacy.neighbours import check_neighbours

_FORMAT = "synthema-model-v2"
_OLD_FORMAT = "synthema-model-v1"
_JSON = "model.json"
_MOST_JSON_BYTES = 1 << 26
_MOST_MEMBERS = 1 << 20
# 2 GB of arrays in all: zeros are packed a thousandfold, so the size of the file bounds nothing.
_MOST_CELLS = 1 << 28
# More axes no array has.
_MOST_AXES = 64
# Building the junction tree of a hostile file would take time in the square of this.
_MOST_COLUMNS = 1 << 12
# Marginals are products of doubles; sums over a few thousand cells stay far within this.
_SLACK = 1e-9
# The same model gives the same bytes: no clock in the archive.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


# What the readers of zip archives, JSON, arrays and schemas raise when they are given something else.
_UNREADABLE = (
    *(LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, SyntaxError),
    *(zlib.error, struct.error, tokenize.TokenError, GeneratorError, PrivacyError),
)


def save_model(model: GraphicalModel, path: Path) -> None:
    """Write the model. Raises ModelFileInvalid, and writes nothing, if it is too large to be read again."""
    tree = model.marginals.tree
    arrays: dict[str, npt.NDArray[Any]] = {
        _clique_name(i): np.ascontiguousarray(model.marginals.conditional(i)) for i in range(len(tree.cliques))
    }
    for i, part in enumerate(model.measurements):
        arrays[_measurement_name(i)] = part.values
    head = {
        "format": _FORMAT,
        "mechanism": model.mechanism,
        "neighbours": model.neighbours,
        "schema": model.schema.to_dict(),
        "cliques": [list(clique) for clique in tree.cliques],
        "total": repr(model.total),
        "fit_gap": repr(model.fit_gap),
        "events": [event_to_json(event) for event in model.events],
        "measurements": [
            {
                "columns": list(part.columns),
                "noise_std": repr(part.noise_std),
                "groups": [None if group is None else group.tolist() for group in part.groups],
            }
            for part in model.measurements
        ],
    }
    text = json.dumps(head, ensure_ascii=True, indent=1, allow_nan=False)
    _check(
        len(text) <= _MOST_JSON_BYTES
        and len(arrays) < _MOST_MEMBERS
        and sum(array.size for array in arrays.values()) <= _MOST_CELLS,
        "the model is too large to be read again from a file",
    )
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(_JSON, _NO_TIME), text, compress_type=zipfile.ZIP_DEFLATED)
        for name, array in arrays.items():
            buffer = io.BytesIO()
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            np.lib.format.write_array(buffer, little, version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(name, _NO_TIME)
            archive.writestr(info, buffer.getvalue(), compress_type=zipfile.ZIP_DEFLATED)


def load_model(path: Path) -> GraphicalModel:
    """Read a model. Raises ModelFileInvalid."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive)
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, EOFError) as error:
        raise ModelFileInvalid(f"{path.name} cannot be read as a model file ({type(error).__name__})") from None
    except ModelFileInvalid as error:
        raise ModelFileInvalid(f"{path.name} is no valid model: {error}") from None
    except _UNREADABLE as error:
        raise ModelFileInvalid(
            f"{path.name} is no valid model: a part is missing or of the wrong kind ({type(error).__name__})"
        ) from None


def _read(archive: zipfile.ZipFile) -> GraphicalModel:
    names = [info.filename for info in archive.infolist()]
    _check(len(names) <= _MOST_MEMBERS and len(set(names)) == len(names), "members are repeated or too many")
    _check(_JSON in names, f"{_JSON} is missing")
    head = json.loads(_member(archive, _JSON, _MOST_JSON_BYTES))
    _check(isinstance(head, dict), "the head is no object")
    _check(head.get("format") in {_FORMAT, _OLD_FORMAT}, f"the format is neither {_FORMAT} nor {_OLD_FORMAT}")
    old = head["format"] == _OLD_FORMAT
    joined = "edges" if old else "cliques"
    keys = {"format", "mechanism", "neighbours", "schema", joined, "total", "fit_gap", "events", "measurements"}
    _check(set(head) == keys, "the head has other entries")
    check_neighbours(head["neighbours"])
    schema = Schema.from_dict(head["schema"])
    domain = Domain.from_schema(schema)
    structure: Forest | JunctionTree = _forest(domain, head["edges"]) if old else _tree(domain, head["cliques"])
    parts = head["measurements"]
    wanted = {_JSON, *_array_names(structure), *map(_measurement_name, range(len(parts)))}
    _check(set(names) == wanted, "members are not those that the head announces")
    heads = []
    for part in parts:
        columns = tuple(str(name) for name in part["columns"])
        groups = _groups([None] * len(columns) if old else part["groups"], columns, domain)
        coarse = coarse_domain(domain, {name: g for name, g in zip(columns, groups, strict=False) if g is not None})
        heads.append((columns, coarse.sizes(columns), _number(part["noise_std"]), groups))
    cells = _cells(structure) + sum(math.prod(shape) for _, shape, _, _ in heads)
    _check(cells <= _MOST_CELLS, "the arrays are too large")
    measurements = []
    for i, (columns, shape, noise_std, groups) in enumerate(heads):
        values = _array(archive, _measurement_name(i), np.dtype("<i8"), shape)
        measurements.append(Measurement(columns, values.astype(np.int64), noise_std, groups))
    total = _number(head["total"])
    _check(total >= 1, "the total is below one")
    fit_gap = _number(head["fit_gap"])
    _check(fit_gap >= 0, "the gap is negative")
    return GraphicalModel(
        schema=schema,
        mechanism=str(head["mechanism"]),
        marginals=_read_distribution(archive, structure),
        total=total,
        measurements=tuple(measurements),
        events=tuple(event_from_json(event) for event in head["events"]),
        neighbours=head["neighbours"],
        fit_gap=fit_gap,
    )


def _groups(written: Any, columns: Clique, domain: Domain) -> tuple[Group | None, ...]:
    _check(isinstance(written, list) and len(written) in {0, len(columns)}, "the groups are not those of the columns")
    out: list[Group | None] = []
    for name, codes in zip(columns, written, strict=False):
        if codes is None:
            out.append(None)
            continue
        _check(isinstance(codes, list) and all(type(code) is int for code in codes), "a group is no list of integers")
        merged = check_groups({name: codes}, domain)
        _check(name in merged, "a group merges nothing")
        out.append(merged[name])
    return tuple(out)


def _tree(domain: Domain, written: Any) -> JunctionTree:
    _check(len(domain) <= _MOST_COLUMNS, "there are too many columns")
    _check(isinstance(written, list) and 0 < len(written) <= len(domain), "the cliques are no list, or too many")
    _check(all(isinstance(names, list) and len(names) <= _MOST_AXES for names in written), "a clique is too large")
    cliques = [in_domain_order([str(name) for name in names], domain) for names in written]
    _check(max(domain.cells(clique) for clique in cliques) <= MAX_CELLS, "a clique is too large")
    tree = JunctionTree.build(domain, cliques)
    _check([list(clique) for clique in tree.cliques] == written, "the cliques are not those of a junction tree")
    return tree


def _forest(domain: Domain, written: Any) -> Forest:
    _check(len(domain) <= _MOST_COLUMNS, "there are too many columns")
    return Forest(domain, [(str(first), str(second)) for first, second in written])


def _read_distribution(archive: zipfile.ZipFile, structure: Forest | JunctionTree) -> CliqueMarginals:
    names = _array_names(structure)
    if isinstance(structure, JunctionTree):
        tree = structure
        conditionals = [_probabilities(archive, name, tree.shape(i), tree.rest_axes(i)) for i, name in enumerate(names)]
        marginals = compose(tree, conditionals)
    else:
        sizes = structure.domain.n_codes
        roots = {i: _probabilities(archive, names[i], (sizes[i],), (0,)) for i in structure.roots}
        children = {i: _probabilities(archive, names[i], structure.edge_shape(i), (1,)) for i in structure.children}
        marginals = clique_marginals(compose_forest(structure, roots, children))
    _check(all(abs(float(part.sum()) - 1) < 1e-6 for part in marginals.cliques), "probabilities do not sum to one")
    return marginals


def _probabilities(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> FloatArray:
    """Return an array of probabilities that sum to one over the axes, or to zero where what is given is impossible."""
    array = _array(archive, name, np.dtype("<f8"), shape).astype(np.float64)
    _check(bool((np.isfinite(array) & (array >= 0)).all()), "a probability is negative or no number")
    sums = array.sum(axis=axes)
    _check(bool(((np.abs(sums - 1) < _SLACK) | (sums == 0)).all()), "probabilities do not sum to one")
    return array


def _cells(structure: Forest | JunctionTree) -> int:
    if isinstance(structure, JunctionTree):
        return structure.cells
    return sum(structure.domain.n_codes) + sum(structure.domain.cells(edge) for edge in structure.edges)


def _array_names(structure: Forest | JunctionTree) -> list[str]:
    if isinstance(structure, JunctionTree):
        return [_clique_name(i) for i in range(len(structure.cliques))]
    return [f"column_{i}.npy" for i in range(len(structure.domain))]


def _clique_name(i: int) -> str:
    # Numbered, because a column's name may be no file name.
    return f"clique_{i}.npy"


def _measurement_name(i: int) -> str:
    return f"measurement_{i}.npy"


def _member(archive: zipfile.ZipFile, name: str, most_bytes: int) -> bytes:
    with archive.open(name) as member:
        # Reading stops at the limit, whatever size the archive's directory claims.
        data = member.read(most_bytes + 1)
    _check(len(data) <= most_bytes, f"{name} is too large")
    return data


def _array(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    cells = math.prod(shape)
    _check(cells <= MAX_CELLS, f"{name} is too large")
    buffer = io.BytesIO(_member(archive, name, cells * dtype.itemsize + 4096))
    _check(np.lib.format.read_magic(buffer) == (1, 0), f"{name} has another version")
    found_shape, fortran, found_dtype = np.lib.format.read_array_header_1_0(buffer)
    _check(found_shape == shape and found_dtype == dtype, f"{name} has another shape or type")
    _check(not (fortran and len(shape) > 1), f"{name} has another memory order")
    data = buffer.read()
    _check(len(data) == cells * dtype.itemsize, f"{name} is cut off or too long")
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def _number(text: Any) -> float:
    _check(isinstance(text, str), "a number is not written as text")
    value = float(text)
    _check(math.isfinite(value), "a number is not finite")
    return value


def _check(good: bool, what: str) -> None:  # noqa: FBT001 - the condition is the point
    if not good:
        raise ModelFileInvalid(what)
