import json
import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pandas as pd
import pytest

from anonymise import (
    AttackFigure,
    KAnonymity,
    ReleaseContext,
    Schema,
    anonymise,
    assess_risk,
    report_risk,
)
from anonymise.report import words

SCHEMA = Schema.from_dict(
    {
        "table": {"name": "clinic <b>", "patient_id": "pid"},
        "columns": {
            "pid": {"role": "identifier"},
            "age": {
                "role": "quasi-identifier",
                "kind": "integer",
                "bounds": [0, 99],
                "hierarchy": {"interval": [10, 50]},
            },
            "sex": {"role": "quasi-identifier", "categories": ["F", "M"]},
            "genotype": {"role": "sensitive", "categories": ["HbSS", "HbSC", "HbSβ"]},
        },
    }
)
FRAME = pd.DataFrame(
    {
        "pid": range(7000, 7012),
        "age": [21, 22, 23, 24, 25, 26, 61, 62, 63, 64, 65, 13],
        "sex": list("FFFMMMFFFMMM"),
        "genotype": ["HbSS"] * 5 + ["HbSC"] * 4 + ["HbSS"] * 3,
    }
)


def released():
    return anonymise(FRAME, SCHEMA, models=[KAnonymity(2)], suppression_limit=0.1)


def document(**options):
    return report_risk(FRAME, SCHEMA, released=released(), models=[KAnonymity(2), KAnonymity(11)], **options)


class Reader(HTMLParser):
    """Collects tags, attributes and visible text, and checks that tags close."""

    VOID = frozenset({"meta", "link", "br", "circle", "path", "rect", "line"})

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.attributes, self.words = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag in self.VOID or self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.words.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_before_and_after_stand_beside_each_other():
    found = document()
    assert (found.before.smallest_class, found.before.unit) == (1, "patient")
    assert found.after.smallest_class >= 2
    assert found.release.models == ("KAnonymity(k=2)",)
    assert found.release.suppressed == pytest.approx(1 - len(released().table) / 12)
    facts = {column.name: column for column in found.columns}
    assert facts["pid"].values_after is None
    assert (facts["age"].level, facts["age"].n_levels) == (1, 4)
    assert facts["genotype"].role == "sensitive"


def test_json_is_internal_and_reads_back():
    data = json.loads(document(population_size=500, context=ReleaseContext(recipient="us")).to_json())
    assert (data["format"], data["version"], data["audience"]) == ("synthema-anonymisation", 1, "INTERNAL")
    assert data["after"]["models"][0] == {"model": "KAnonymity(k=2)", "holds": True, "share_failing": 0.0}
    assert data["context"]["recipient"] == "us"
    assert data["before"]["sensitive"][0]["recursive_c"] is None  # Infinite.


def test_the_page_is_whole_marked_internal_and_loads_nothing():
    page = document(population_size=500).to_html()
    reader = read(page)
    assert not {"script", "img", "iframe", "object"} & set(reader.seen)
    assert not [value for name, value in reader.attributes if name in ("src", "style") or name.startswith("on")]
    assert all(value.startswith(("#", "data:,")) for name, value in reader.attributes if name == "href")
    assert "INTERNAL" in page[: page.index("<h1>")]
    assert "<b>" not in page
    assert "clinic &lt;b&gt;" in page
    ids = [value for name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    told = " ".join(reader.words)
    for word in (
        "Singling out",
        "Linkability",
        "Inference",
        "ISO/IEC 27559",
        "Context",
        "Governance",
        "not answered",
    ):
        assert word in told


def test_no_patient_is_named():
    told = " ".join(read(document().to_html()).words) + document().to_json()
    assert not re.search(r"\b70(0\d|1[01])\b", told)
    assert not any(value in told for value in ("HbSS", "HbSC"))


@pytest.mark.parametrize(("sizes", "verdict"), [([11, 12], "good"), ([10, 12], "fair"), ([1, 12], "poor")])
def test_singling_out_is_judged_by_the_smallest_group(sizes, verdict):
    frame = pd.DataFrame({"a": [0] * sizes[0] + [1] * sizes[1]})
    answer = words.answers(report_document(frame))[0]
    assert answer.verdict == verdict


def test_a_column_that_nobody_listed_can_single_out_too():
    frame = pd.DataFrame({"a": [0] * 20 + [1] * 20, "lab": [i // 2 for i in range(40)]})
    columns = {"a": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 9]}}
    schema = Schema.from_dict({"columns": columns | {"lab": {"kind": "continuous", "bounds": [0, 99]}}})
    assert words.answers(report_risk(frame, schema))[0].verdict == "good"
    frame.loc[30:, "lab"] = range(50, 60)
    answer = words.answers(report_risk(frame, schema))[0]
    assert answer.verdict == "fair"
    assert "lab (25 %)" in answer.text


def report_document(frame, **options):
    columns = {"a": {"role": "quasi-identifier", "kind": "integer", "bounds": [0, 9]}}
    if "s" in frame:
        columns["s"] = {"role": "sensitive", "categories": ["x", "y"]}
    return report_risk(frame, Schema.from_dict({"columns": columns}), **options)


def test_linkability_is_not_judged_by_counting_and_inference_never_good():
    frame = pd.DataFrame({"a": [0] * 20 + [1] * 20, "s": list("xy") * 20})
    _, linkability, inference = words.answers(report_document(frame))
    assert linkability.verdict == "None"
    assert inference.verdict == "fair"
    assert "50 %" in inference.text
    frame["s"] = ["x"] * 20 + ["x", "y"] * 10
    inference = words.answers(report_document(frame))[2]
    assert inference.verdict == "poor"
    assert "same s" in inference.text
    assert words.answers(report_document(frame[["a"]]))[2].verdict == "None"


def test_attacks_that_were_tried_count_more_than_counting():
    frame = pd.DataFrame({"a": [0] * 20 + [1] * 20})
    attacks = (
        AttackFigure("singling out", "by one value", 0.01, 0.0, 0.02, 0.01, "Guesses a value.", "good"),
        AttackFigure("singling out", "by two values", 0.4, 0.3, 0.5, 0.1, "Guesses two values.", "poor"),
        AttackFigure("linkability", "two halves", 0.1),
    )
    found = report_document(frame, attacks=attacks)
    singling, linkability, _ = words.answers(found)
    assert singling.verdict == "poor"
    assert "by two values succeeded in 40.0 %" in singling.text
    assert linkability.verdict == "None"
    told = " ".join(read(found.to_html()).words)
    assert "Guesses two values." in told
    assert "30.0 % to 50.0 %" in told


def test_a_population_is_generalised_like_the_table():
    population = pd.concat([FRAME[["age", "sex"]]] * 3)
    found = document(population=population)
    assert found.before.journalist.smallest_crowd == 3
    assert found.after.journalist.smallest_crowd == 3 * found.after.smallest_class
    assert found.after.journalist.share_not_covered == 0.0
    assert "population table" in found.to_html()


def test_visits_of_patients_are_reported_by_patient():
    frame = pd.DataFrame(
        {
            "pid": [1, 1, 2, 2, 3, 3, 4, 4],
            "age": [31, 32, 33, 34, 35, 36, 37, 38],
            "sex": list("FFFFMMMM"),
            "genotype": ["HbSS", "HbSC"] * 4,
        }
    )
    result = anonymise(frame, SCHEMA, models=[KAnonymity(2)])
    found = report_risk(frame, SCHEMA, released=result, models=[KAnonymity(2)])
    assert (found.before.unit, found.before.smallest_class) == ("patient", 1)
    assert (found.after.unit, found.after.n_people, found.after.smallest_class) == ("patient", 4, 2)
    assert found.after.models[0].holds
    assert "several values" in words.answers(found)[2].text
    read(found.to_html())


def test_a_table_from_elsewhere_is_reported_by_its_text():
    table = pd.DataFrame({"age": ["20-29"] * 6 + ["60-69"] * 5, "sex": "*"})
    found = report_risk(FRAME, SCHEMA, released=table, models=[KAnonymity(5)])
    assert (found.after.smallest_class, found.release.score, found.release.optimal) == (5, None, None)
    assert found.after.unit == "row"
    read(found.to_html())


def test_a_risk_report_alone_has_a_page_and_a_plot():
    report = assess_risk(FRAME, SCHEMA, population_size=1000)
    page = read(report.to_html())
    assert "Nothing has been anonymised." in " ".join(page.words)
    root = ET.fromstring(report.plot())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "INTERNAL" in report.plot()


def test_repr_and_findings_name_columns_only():
    found = report_risk(FRAME, SCHEMA)
    assert repr(found) == "RiskDocument(INTERNAL, title='clinic <b>')"
    assert [finding.source for finding in found.findings] == ["EMA Policy 0070"]
    assert math.isclose(found.before.sample_uniqueness, 1.0)
