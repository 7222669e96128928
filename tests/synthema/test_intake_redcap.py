"""REDCap exports: choices by the dictionary, checkboxes, events and repeated instruments, raw or with labels."""

import pytest

from privacy import Schema, SchemaError
from synthema.errors import TableError
from synthema.intake import SiteMap, read_source, source_of, unmapped_codes
from synthema.intake.redcap import read_dictionary, read_redcap

DICTIONARY = """\
"Variable / Field Name","Form Name","Section Header","Field Type","Field Label",\
"Choices, Calculations, OR Slider Labels"
record_id,base,,text,"Record ID",
sex,base,,radio,"<b>Sex</b> at birth","1, Male | 2, Female"
fit,base,,yesno,"Fit for intensive therapy?",
genes,base,,checkbox,"Mutated genes","1, NPM1 | 2, FLT3, ITD | -3, TP53"
hb,base,,text,"Haemoglobin (g/dL)",
note,base,,notes,"Note","what, ever"
"""
RAW = """\
record_id,sex,fit,genes___1,genes___2,genes____3,hb,note
1,1,1,1,0,0,9.8,"a, b"
2,2,0,0,1,1,,
3,2,,0,0,0,11,
"""
LABELS = """\
Record ID,Sex at birth,Fit for intensive therapy?,Mutated genes (choice=NPM1),"Mutated genes (choice=FLT3, ITD)",\
Mutated genes (choice=TP53),Haemoglobin (g/dL),Note
1,Male,Yes,Checked,Unchecked,Unchecked,9.8,"a, b"
2,Female,No,Unchecked,Checked,Checked,,
3,Female,,Unchecked,Unchecked,Unchecked,11,
"""
FIELDS = read_dictionary("d.csv", DICTIONARY.encode())
WANTED = ["record_id", "sex", "fit", "genes", "hb"]


def columns(text=RAW, wanted=WANTED, **options):
    table = read_redcap("e.csv", text.encode(), FIELDS, wanted, **options)
    return {name: values.tolist() for name, values in table.columns.items()}


def test_a_raw_export_and_a_labels_export_become_the_same_table():
    raw = columns()
    assert raw == columns(LABELS, form="labels")
    assert raw == {
        "record_id": ["1", "2", "3"],
        "sex": ["Male", "Female", "Female"],
        "fit": ["Yes", "No", ""],
        "genes": ["NPM1", "FLT3, ITD;TP53", ""],
        "hb": ["9.8", "", "11"],
        "note": ["a, b", "", ""],
    }


def test_codes_stay_codes_where_that_is_asked():
    found = columns(values="codes")
    assert found["sex"] == ["1", "2", "2"]
    assert found["genes"] == ["1", "2;-3", ""]


def test_a_checkbox_that_is_looked_for_by_its_column_stays_a_flag():
    for text, form in ((RAW, "raw"), (LABELS, "labels")):
        found = columns(text, [*WANTED[:3], "genes___1", "genes___2"], form=form)
        assert found["genes___1"] == ["1", "0", "0"]
        assert found["genes___2"] == ["0", "1", "0"]
        assert "genes" not in found


def test_an_export_becomes_the_schemas_table(tmp_path):
    (tmp_path / "e.csv").write_text(RAW)
    (tmp_path / "d.csv").write_text(DICTIONARY)
    schema = Schema.from_dict(
        {
            "table": {"name": "aml", "patient_id": "id"},
            "columns": {
                "id": {"role": "identifier"},
                "sex": {"categories": ["F", "M"]},
                "NPM1": {"categories": ["0", "1"]},
                "hb": {"kind": "continuous", "bounds": [0, 250], "nullable": True},
            },
        }
    )
    rules = {
        "version": 1,
        "others": "drop",
        "columns": {
            "id": {"from": "record_id"},
            "sex": {"recode": {"Male": "M", "Female": "F"}},
            "NPM1": {"from": "genes___1"},
            "hb": {"unit": {"factor": 10.0}},
        },
    }
    spec = source_of({"kind": "redcap", "path": "e.csv", "dictionary": "d.csv"})
    frame = read_source(spec, schema, SiteMap.from_dict(rules), folder=tmp_path)
    assert frame["sex"].tolist() == ["M", "F", "F"]
    assert frame["NPM1"].tolist() == ["1", "0", "0"]
    assert frame["hb"].tolist()[::2] == [98.0, 110.0]
    del rules["columns"]["sex"]["recode"]["Female"]
    with pytest.raises(SchemaError, match="'sex': holds codes that the map does not cover") as caught:
        read_source(spec, schema, SiteMap.from_dict(rules), folder=tmp_path)
    assert "Female" not in str(caught.value)
    # Two rows share the code: too few to be shown.
    assert unmapped_codes(spec, schema, SiteMap.from_dict(rules), folder=tmp_path, at_least=1) == {}
    (tmp_path / "e.csv").write_text(RAW + "".join(f"{i},2,,0,0,0,11,\n" for i in range(4, 12)))
    assert unmapped_codes(spec, schema, SiteMap.from_dict(rules), folder=tmp_path) == {"sex": ["Female"]}


EVENTS = """\
record_id,redcap_event_name,redcap_repeat_instrument,redcap_repeat_instance,sex,hb
1,diagnosis_arm_1,,,1,9.8
1,month_6_arm_1,,,,12
2,diagnosis_arm_1,,,2,8
2,diagnosis_arm_1,blood_counts,1,,7
2,diagnosis_arm_1,blood_counts,2,,7.5
"""


def test_several_rows_of_a_patient_are_refused_until_it_is_said_which_count():
    with pytest.raises(TableError, match=r"rows of several events.*declare event") as caught:
        columns(EVENTS)
    assert "month_6" not in str(caught.value)
    with pytest.raises(TableError, match=r'repeating instruments.*repeats = "drop"'):
        columns(EVENTS, event="diagnosis_arm_1")
    found = columns(EVENTS, event="diagnosis_arm_1", repeats="drop")
    assert found == {"record_id": ["1", "2"], "sex": ["Male", "Female"], "hb": ["9.8", "8"]}
    assert columns(EVENTS, event="month_6_arm_1")["hb"] == ["12"]
    with pytest.raises(TableError, match="no row of the event"):
        columns(EVENTS, event="month_60_arm_1")
    with pytest.raises(TableError, match="no column redcap_event_name"):
        columns(RAW, event="diagnosis_arm_1")


@pytest.mark.parametrize(
    ("old", "new", "options", "message"),
    [
        ("1,1,1,1,0,0", "1,7,1,1,0,0", {}, "'sex': holds a code that the dictionary does not have"),
        ("1,1,1,1,0,0", "1,1,1,5,0,0", {}, "'genes___1': holds something else than ticks"),
        ("fit", "sex", {}, "'sex' more than once"),
        ("1,1,1,1,0,0", "1,Male,1,1,0,0", {}, "does not have"),
    ],
)
def test_an_export_that_does_not_fit_its_dictionary_is_refused(old, new, options, message):
    with pytest.raises(TableError, match=message):
        columns(RAW.replace(old, new, 1), **options)


def test_two_fields_of_one_label_are_not_told_apart_by_guessing():
    twice = read_dictionary("d.csv", DICTIONARY.replace("Haemoglobin (g/dL)", "Note").encode())
    with pytest.raises(TableError, match="several fields have the label 'Note'"):
        read_redcap("e.csv", b"Record ID,Note\n1,2\n", twice, WANTED, form="labels")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DICTIONARY.replace('"1, Male | 2, Female"', '"Male | Female"'), "choices of 'sex'"),
        (DICTIONARY.replace('"1, Male | 2, Female"', '"1, Male | 1, Female"'), "choices of 'sex'"),
        (DICTIONARY.replace("Field Type", "Type"), "no column 'Field Type'"),
        ("a,b\n1,2\n", "names none"),
    ],
)
def test_what_is_no_dictionary_is_refused(text, message):
    with pytest.raises(TableError, match=message):
        read_dictionary("d.csv", text.encode())


def test_a_label_with_the_separator_needs_codes():
    fields = read_dictionary("d.csv", DICTIONARY.replace("FLT3, ITD", "FLT3; ITD").encode())
    with pytest.raises(TableError, match='set values = "codes"'):
        read_redcap("e.csv", RAW.encode(), fields, WANTED)
    codes = read_redcap("e.csv", RAW.encode(), fields, WANTED, values="codes").columns["genes"]
    assert codes.tolist() == ["1", "2;-3", ""]
