import pandas as pd
import pytest

from anonymise import Schema, assess_risk, check_policy_0070, check_safe_harbor

# Every identifier by the name of its column, and by the form of its values under a name that tells nothing.
BY_NAME = {
    "A": ["lastName", "Family name", "vorname", "apellidos", "cognome"],
    "B": ["street", "home_address", "city", "fac_district", "num_xcoord", "Wohnort"],
    "D": ["phone", "Telefon privat", "teléfono"],
    "E": ["fax_number"],
    "F": ["eMail", "e-mail", "correo"],
    "G": ["SSN", "social-security-number", "SVNR"],
    "H": ["MRN", "patientId", "patient_id", "Fallnummer"],
    "I": ["insurance_id", "Versichertennummer"],
    "J": ["IBAN", "account"],
    "K": ["driving licence", "passport_no"],
    "L": ["VIN", "license_plate"],
    "M": ["device_id", "serial_number"],
    "N": ["url"],
    "O": ["ip_address"],
    "P": ["fingerprint"],
    "Q": ["photo", "faceImage"],
}
BY_FORM = [
    ("A", ["Müller, Anna", "O'Neill, John", "Ruiz, José M."]),
    ("C", ["2001-05-03"]),
    ("C", ["2001-05"]),
    ("C", ["2001-05-03 10:11:12"]),
    ("C", ["2001", "3.5.2001"]),
    ("C", ["05/03/01"]),
    ("C", ["3 May 2001"]),
    ("C", [20010503, 19991231]),
    ("C", pd.to_datetime(["2001-05-03", "2002-01-01"])),
    ("D", ["+43 1 40400 12345", "0676/1234567"]),
    ("F", ["unknown", "anna@example.org"]),
    ("G", ["123-45-6789"]),
    ("L", ["1HGBH41JXMN109186"]),
    ("N", ["https://example.org/p/1"]),
    ("O", ["192.168.2.1", "none"]),
    ("O", ["2001:db8::1"]),
    ("R", ["Pat. came by herself from her sister's home in the evening, complained of pain"]),
    ("R", [f"K{i:05d}" for i in range(30)]),
    ("R", list(range(1000, 1030))),
]
# What a haematologist's release holds and may hold.
FINE = {
    "stage": ["II", "III"],
    "platelets": [150.5, 1999.5, 2500.0],
    "plate_count": ["1999.5", "250.0"],
    "ward": ["A", "B"],
    "year": [2001, 2002],
    "diagnosed": pd.to_datetime(["2001-01-01", "2002-01-01"]),
    "diagnosis": ["C92.0", "D46.9"],
    "genotype": ["HbSS", "HbSC"],
    "age": ["[80, 85)", "90+"],
    "age at diagnosis": ["0-17", ">= 90"],
    "birth_year": [1950, 1980],
    "zip": ["100", "021"],
    "state": ["NY", "CA"],
    "outcome_date": ["*", "*"],
    "email": ["*", None],
    "hb": [7.123, 8.234, 9.345],
    "cycle": [1, 2, 3],
    "dose": ["1.5", "2.25"],
}


@pytest.mark.parametrize(("paragraph", "name"), [(p, name) for p, names in BY_NAME.items() for name in names])
def test_identifiers_are_known_by_the_words_of_a_name(paragraph, name):
    (finding,) = check_safe_harbor(pd.DataFrame({name: ["x", "y"]}))
    assert (finding.column, finding.source) == (name, f"45 CFR 164.514(b)(2)(i)({paragraph})")


@pytest.mark.parametrize(("paragraph", "values"), BY_FORM)
def test_identifiers_are_known_by_the_form_of_their_values(paragraph, values):
    (finding,) = check_safe_harbor(pd.DataFrame({"q7": values}))
    assert finding.source == f"45 CFR 164.514(b)(2)(i)({paragraph})"


@pytest.mark.parametrize("name", FINE)
def test_what_may_leave_is_not_found(name):
    assert check_safe_harbor(pd.DataFrame({name: FINE[name]}), reference_year=2026) == ()


@pytest.mark.parametrize(
    ("name", "values", "rule"),
    [
        ("age", [89, 91], "ages over 89"),
        ("Alter", ["[85, 90)", "[90, 95)"], "ages over 89"),
        ("birth_year", [1930, 1980], "tell an age over 89"),
        ("ZIP code", ["10023"], "more than three digits"),
        ("postcode", ["SW1A 1AA"], "more than three digits"),
        ("zip", ["1002*"], "more than three digits"),
        ("zip3", ["100", "036"], "at most 20,000 people"),
    ],
)
def test_ages_years_of_birth_and_postal_codes_are_read_under_their_names(name, values, rule):
    (finding,) = check_safe_harbor(pd.DataFrame({name: values}), reference_year=2026)
    assert rule in finding.rule
    # The negative control: the same values elsewhere mean nothing.
    assert check_safe_harbor(pd.DataFrame({"score": values}), reference_year=2026) == ()


def test_findings_never_name_a_value():
    frame = pd.DataFrame({f"q{i}": list(values)[:1] * 2 for i, (_, values) in enumerate(BY_FORM)})
    findings = check_safe_harbor(frame)
    assert len(findings) >= 14
    told = " ".join(map(str, findings))
    assert not any(str(value) in told for values in frame.to_numpy().tolist() for value in values)


def test_identifiers_of_the_schema_do_not_leave_and_are_not_found():
    columns = {"pid": {"role": "identifier"}, "city": {"categories": ["x", "y"]}}
    frame = pd.DataFrame({"pid": [1, 2], "city": ["x", "y"]})
    assert [f.column for f in check_safe_harbor(frame, Schema.from_dict({"columns": columns}))] == ["city"]
    assert [f.column for f in check_safe_harbor(frame)] == ["pid", "city"]


def test_policy_0070_wants_classes_of_eleven():
    frame = pd.DataFrame({"age": [40] * 11, "sex": "F"})
    assert check_policy_0070(assess_risk(frame, quasi_identifiers=["age", "sex"])) == ()
    (finding,) = check_policy_0070(assess_risk(frame[1:], quasi_identifiers=["age", "sex"]))
    assert finding.column == "age, sex"
    assert "0.09" in finding.rule
    assert "KAnonymity(11)" in finding.way_out
