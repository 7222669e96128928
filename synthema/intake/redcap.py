"""REDCap exports: codes and labels by the data dictionary, checkboxes joined, one row a patient.

A checkbox field is exported as one column for each choice, `name___code`, 1 where it is ticked. Where such a column is
looked for by its own name it stays a 0/1 flag; else the ticked choices are joined into one set-valued column. In a
labels export the header has the fields' labels, which the dictionary leads back to their names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from synthema.errors import TableError
from synthema.intake.delimited import read_delimited
from synthema.intake.raw import NumberForm, RawTable, Texts

EVENT, INSTRUMENT, INSTANCE = "redcap_event_name", "redcap_repeat_instrument", "redcap_repeat_instance"
_LABELS_OF = {EVENT: "Event Name", INSTRUMENT: "Repeat Instrument", INSTANCE: "Repeat Instance"}
# Added by REDCap to every export: not data of patients.
_ADDED = (EVENT, INSTRUMENT, INSTANCE, "redcap_data_access_group", "redcap_survey_identifier")
_NAME, _TYPE, _LABEL = "Variable / Field Name", "Field Type", "Field Label"
_CHOICES = "Choices, Calculations, OR Slider Labels"
_YES_NO = {"yesno": {"1": "Yes", "0": "No"}, "truefalse": {"1": "True", "0": "False"}}
SEPARATOR = ";"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the data dictionary; `choices`: code -> label where its values are coded."""

    name: str
    kind: str
    label: str
    choices: dict[str, str] = field(default_factory=dict)


def read_dictionary(name: str, raw: bytes) -> dict[str, Field]:
    r"""Return a data dictionary's fields by name. Raises TableError.

    Examples
    --------
    >>> text = b"Variable / Field Name,Field Type,Field Label,"
    >>> text += b'"Choices, Calculations, OR Slider Labels"\nsex,radio,Sex,"1, Male | 2, Female"\n'
    >>> read_dictionary("d.csv", text)["sex"].choices
    {'1': 'Male', '2': 'Female'}
    """
    table = read_delimited(name, raw, [_NAME, _TYPE, _LABEL, _CHOICES])
    lacking = [column for column in (_NAME, _TYPE, _LABEL, _CHOICES) if column not in table.columns]
    if lacking:
        raise TableError(f"{name} is no REDCap data dictionary: it has no column {lacking[0]!r}")
    out = {}
    for field_name, kind, label, choices in zip(
        *(table.columns[column].tolist() for column in (_NAME, _TYPE, _LABEL, _CHOICES)), strict=True
    ):
        coded = _YES_NO.get(kind) or (_choices(name, field_name, choices) if kind in _CODED else {})
        # Labels are shown without their markup.
        out[field_name] = Field(field_name, kind, " ".join(re.sub(r"<[^>]*>", "", label).split()), coded)
    return out


_CODED = ("radio", "dropdown", "checkbox")


def read_redcap(
    name: str,
    raw: bytes,
    dictionary: Mapping[str, Field],
    wanted: Sequence[str],
    *,
    form: str = "raw",
    values: str = "labels",
    event: str | None = None,
    repeats: str = "refuse",
    encoding: str = "auto",
    numbers: NumberForm | None = None,
) -> RawTable:
    """Return the table of an export.

    Parameters
    ----------
    name, raw
        The file's name for messages, and its bytes.
    dictionary
        The project's fields.
    wanted
        Columns that are looked for.
    form
        "raw" or "labels", as exported.
    values
        What coded fields then hold.
    event
        Of a longitudinal project: the event whose rows are taken.
    repeats
        "drop" leaves out rows of repeating instruments.
    encoding, numbers
        As `read_delimited`.

    Raises
    ------
    TableError
        For another form than declared, several events, repeated rows, or codes that the dictionary does not have;
        never with a value.
    """
    own = [*dictionary, *(_flag(f, code) for f in dictionary.values() if f.kind == "checkbox" for code in f.choices)]
    known = [*own, *_ADDED]
    if form == "labels":
        known += [*_LABELS_OF.values(), *(f.label for f in dictionary.values())]
    table = read_delimited(name, raw, known, encoding=encoding, numbers=numbers)
    columns = _named(name, table.columns, dictionary) if form == "labels" else dict(table.columns)
    columns = _one_row_each(name, columns, event, repeats)
    for added in _ADDED:
        if added not in wanted:
            columns.pop(added, None)
    for found in [column for column in columns if column in dictionary]:
        if form == "raw" and dictionary[found].choices:
            columns[found] = _labelled(name, dictionary[found], columns[found], values)
    for box in dictionary.values():
        if box.kind == "checkbox":
            _join(name, box, columns, wanted, values)
    return RawTable(name, columns, table.numbers)


def _choices(name: str, field_name: str, text: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for part in text.split("|"):
        code, comma, label = part.partition(",")
        if not comma or not code.strip() or code.strip() in out:
            raise TableError(f"{name}: the choices of {field_name!r} are not of the form 'code, label | code, label'")
        out[code.strip()] = " ".join(re.sub(r"<[^>]*>", "", label).split())
    return out


def _named(name: str, columns: Mapping[str, Texts], dictionary: Mapping[str, Field]) -> dict[str, Texts]:
    """Return a labels export's columns under their fields' names."""
    by_label: dict[str, list[str]] = {}
    for f in dictionary.values():
        if f.kind == "checkbox":
            for code, choice in f.choices.items():
                by_label.setdefault(f"{f.label} (choice={choice})", []).append(_flag(f, code))
        else:
            by_label.setdefault(f.label, []).append(f.name)
    by_label |= {label: [added] for added, label in _LABELS_OF.items()}
    out: dict[str, Texts] = {}
    for header, values in columns.items():
        names = [header] if header in dictionary else by_label.get(header, [header])
        if len(names) > 1:
            raise TableError(f"{name}: several fields have the label {header!r}; export raw data instead")
        if names[0] in out:
            raise TableError(f"{name} has the field {names[0]!r} more than once; keep one of them")
        out[names[0]] = values
    return out


def _one_row_each(name: str, columns: dict[str, Texts], event: str | None, repeats: str) -> dict[str, Texts]:
    """Return the rows of one event, without rows of repeating instruments."""
    n_rows = len(next(iter(columns.values())))
    kept = np.ones(n_rows, dtype=bool)
    if event is not None:
        if EVENT not in columns:
            raise TableError(f"{name} has no column {EVENT}, but event is declared: drop event")
        kept &= columns[EVENT] == event
        if not kept.any():
            raise TableError(f"{name} has no row of the event that is declared: correct event")
    elif EVENT in columns and len(set(columns[EVENT].tolist())) > 1:
        raise TableError(
            f"{name} has rows of several events, so a patient has several rows: declare event, or export one event"
        )
    if INSTRUMENT in columns or INSTANCE in columns:
        repeated = np.zeros(n_rows, dtype=bool)
        for column in (INSTRUMENT, INSTANCE):
            if column in columns:
                repeated |= columns[column] != ""
        if (repeated & kept).any():
            if repeats == "refuse":
                raise TableError(
                    f"{name} has rows of repeating instruments or events, so patients have several rows: export "
                    'without them, or set repeats = "drop" to leave these rows out'
                )
            kept &= ~repeated
    if not kept.any():
        raise TableError(f"{name} has no row left: check event and repeats")
    return {column: values[kept] for column, values in columns.items()}


def _labelled(name: str, f: Field, texts: Texts, values: str) -> Texts:
    if not set(texts.tolist()) - {""} <= set(f.choices):
        raise TableError(
            f"{name}, column {f.name!r}: holds a code that the dictionary does not have; export both anew, or set form "
            'to "labels" if it holds labels'
        )
    if values == "codes":
        return texts
    return np.array([f.choices.get(text, "") for text in texts.tolist()], dtype=object)


def _join(name: str, box: Field, columns: dict[str, Texts], wanted: Sequence[str], values: str) -> None:
    """Turn ticks into 0/1 flags; join those that are not looked for by themselves into one column of sets."""
    names = {code: _flag(box, code) for code in box.choices}
    ticks = {}
    for code, column in names.items():
        if column in columns:
            ticks[code] = _ticked(name, column, columns[column])
            columns[column] = np.where(ticks[code], "1", "0").astype(object)
    if not ticks or set(names.values()) & set(wanted):
        return
    written = {code: code if values == "codes" else box.choices[code] for code in ticks}
    if box.name in wanted and any(SEPARATOR in text for text in written.values()):
        raise TableError(f'{name}: a choice of {box.name!r} holds "{SEPARATOR}": set values = "codes"')
    rows = zip(*(flags.tolist() for flags in ticks.values()), strict=True)
    joined = [SEPARATOR.join(text for text, flag in zip(written.values(), row, strict=True) if flag) for row in rows]
    for column in names.values():
        columns.pop(column, None)
    columns[box.name] = np.array(joined, dtype=object)


def _flag(box: Field, code: str) -> str:
    """Return the name of a choice's column: a minus in the code is written as an underscore, capitals small."""
    return f"{box.name}___{re.sub(r'[^a-z0-9_]', '_', code.lower())}"


def _ticked(name: str, column: str, texts: Texts) -> npt.NDArray[np.bool_]:
    if not set(texts.tolist()) <= {"0", "1", "Checked", "Unchecked", ""}:
        raise TableError(f"{name}, column {column!r}: holds something else than ticks of a checkbox; export it anew")
    return np.array([text in ("1", "Checked") for text in texts.tolist()], dtype=bool)
