"""Which columns a rule names: HIPAA's Safe Harbor list of 18 identifiers, and EMA Policy 0070's threshold.

Columns are recognised by the words of their names (English, and the commonest in German, Spanish, French and Italian)
and by the form of their values. A finding names the column, the rule and the way out, never a value. No finding is no
proof: a name list of all people, or a code that only a hospital knows, is not in here.

Source: 45 CFR 164.514(b)(2)(i)(A)-(R), and HHS guidance of 26 November 2012 (the 17 three-digit ZIP codes with at most
20,000 people, census of 2000); EMA/90915/2016, external guidance on Policy 0070 (0.09).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import pandas as pd

from anonymise.risk.coded import ANYTHING, CodedColumn, code_table
from anonymise.risk.figures import RiskReport
from privacy.schema import Schema


@dataclass(frozen=True, slots=True)
class Finding:
    """A column (or several) that breaks a rule.

    source    the rule's paragraph
    """

    column: str
    rule: str
    way_out: str
    source: str

    def __str__(self) -> str:
        """Return it as one sentence."""
        return f"column {self.column!r}: {self.rule}; {self.way_out} ({self.source})"


@dataclass(frozen=True, slots=True)
class _Rule:
    """One paragraph: the words of a column's name that point to it, and the form of its values.

    words       sets of words, all of which must be in the name
    matches     whether a value has the form; None if names alone tell
    least       share of the distinct values that must have it; 0.0: a single one is enough
    always      it was found already
    """

    paragraph: str
    rule: str
    way_out: str
    words: tuple[frozenset[str], ...] = ()
    matches: Callable[[str], bool] | None = None
    least: float = 0.0
    always: bool = False


def check_safe_harbor(
    frame: pd.DataFrame, schema: Schema | None = None, *, reference_year: int | None = None
) -> tuple[Finding, ...]:
    """Return the columns that HIPAA's Safe Harbor method would not let leave, in the table's order.

    Parameters
    ----------
    frame
        The table as it is meant to leave; of a raw table the findings say what must be generalised or dropped.
    schema
        Its identifiers are left out: a release does not have them.
    reference_year
        The year in which the table leaves: years of birth that tell an age over 89 depend on it. This year by default.

    Examples
    --------
    >>> frame = pd.DataFrame({"birth_date": ["1931-02-03"], "ward": ["A"]})
    >>> for finding in check_safe_harbor(frame):
    ...     print(finding)
    column 'birth_date': holds dates finer than the year; generalise it to the year (45 CFR 164.514(b)(2)(i)(C))
    """
    year = dt.datetime.now(tz=dt.UTC).year if reference_year is None else reference_year
    hidden = () if schema is None else tuple(c.name for c in schema.columns if c.role == "identifier")
    out: list[Finding] = []
    for name, column in code_table(frame).items():
        if name not in hidden:
            out.extend(_findings(column, year))
    return tuple(out)


def check_policy_0070(report: RiskReport) -> tuple[Finding, ...]:
    """Return what EMA Policy 0070's quantitative criterion finds: people in classes of fewer than 11.

    Examples
    --------
    >>> from anonymise.risk import assess_risk
    >>> report = assess_risk(pd.DataFrame({"age": [41] * 10}), quasi_identifiers=["age"])
    >>> check_policy_0070(report)[0].rule
    'people stand in classes of fewer than 11: a risk above 0.09'
    """
    if report.smallest_class >= 11:
        return ()
    return (
        Finding(
            column=", ".join(report.quasi_identifiers),
            rule="people stand in classes of fewer than 11: a risk above 0.09",
            way_out="anonymise with KAnonymity(11), or justify another threshold by context (EMA/90915/2016, 5.4)",
            source="EMA Policy 0070",
        ),
    )


# ---------------------------------------------------------------- one column


def _findings(column: CodedColumn, year: int) -> Iterator[Finding]:
    values = [text for text in dict.fromkeys(column.texts()) if text not in ("", ANYTHING)]
    if not values:  # Nothing left to tell.
        return
    words = _words(column.name)
    # A name means one thing: the first rule that knows it (an IP address is no street address).
    named = next((rule for rule in _RULES if any(needed <= words for needed in rule.words)), None)
    said = set()
    for rule in (*_RULES, *_special(words, values, year)):
        if rule.paragraph not in said and (rule is named or rule.always or _by_form(rule, values, column)):
            said.add(rule.paragraph)
            yield _finding(column.name, rule)
    if not said and _names_each(column, values):
        yield _finding(column.name, _CODE)


def _by_form(rule: _Rule, values: Sequence[str], column: CodedColumn) -> bool:
    kind = column.values.dtype.kind
    if rule.matches is None:
        return False
    if rule is _DATE and kind == "M":
        return not all(_NEW_YEAR.fullmatch(text) for text in values)
    if kind in "biuf":
        # A number is a day only if all of the column are: 20010503.
        return rule is _DATE and all(len(text) == 8 and _DATE_FORM.fullmatch(text) for text in values)
    if rule.least == 0.0:
        return any(map(rule.matches, values))
    return sum(map(rule.matches, values)) >= rule.least * len(values)


def _finding(name: str, rule: _Rule) -> Finding:
    return Finding(name, rule.rule, rule.way_out, f"45 CFR 164.514(b)(2)(i)({rule.paragraph})")


def _special(words: frozenset[str], values: Sequence[str], year: int) -> Iterator[_Rule]:
    """Yield the rules whose forms mean something only under a name: ages, years of birth and postal codes."""
    if words & _AGE_WORDS and any(map(_over_89, values)):
        yield _always("C", "holds ages over 89", 'put them into one group, "90+"')
    elif words & _BIRTH_WORDS and any(re.fullmatch(r"\d{4}", v) and 89 < year - int(v) < 130 for v in values):
        yield _always("C", "holds years of birth that tell an age over 89", "put them into one group")
    if words & _POSTAL_WORDS:
        digits = [re.sub(r"[^0-9A-Z]", "", value.upper()) for value in values]
        if any(len(text) > 3 for text in digits):
            yield _always("B", "holds postal codes of more than three digits", "keep the first three digits")
        elif any(text in _SMALL_ZIP3 for text in digits):
            yield _always("B", "holds three-digit ZIP codes with at most 20,000 people", "change these to 000")


def _always(paragraph: str, rule: str, way_out: str) -> _Rule:
    return _Rule(paragraph, rule, way_out, always=True)


def _over_89(text: str) -> bool:
    """Return whether an age or a group of ages tells more than that somebody is 90 or older."""
    numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]
    if not numbers or numbers[0] < 90 or numbers[0] > 130:
        return False
    return len(numbers) > 1 or not re.search(r"\+|>|≥|over|older|above|and|or|inf", text.lower())


def _names_each(column: CodedColumn, values: Sequence[str]) -> bool:
    """Return whether a text or a whole number is different in every one of at least twenty rows."""
    if column.values.dtype.kind in "fmM" or len(values) < 20:
        return False
    return len(values) == column.codes.size and not all(re.fullmatch(r"-?\d+\.\d+", value) for value in values)


def _words(name: str) -> frozenset[str]:
    """Return the words of a column's name: patientID, patient_id and "Patient id" are the same."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    words = re.findall(r"[^\W\d_]+|\d+", parted.lower())
    return frozenset([*words, *(a + b for a, b in pairwise(words))])


# ---------------------------------------------------------------- forms of values

_MONTHS: Final = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DATE_FORM: Final = re.compile(
    r"\d{4}[-/](0?[1-9]|1[0-2])([-/](0?[1-9]|[12]\d|3[01]))?([T ].*)?"
    r"|\d{4}\.(0?[1-9]|1[0-2])\.(0?[1-9]|[12]\d|3[01])"
    r"|(0?[1-9]|[12]\d|3[01])[-/.](0?[1-9]|1[0-2])[-/.](\d{4}|\d{2})"
    r"|(0?[1-9]|1[0-2])[-/.](0?[1-9]|[12]\d|3[01])[-/.](\d{4}|\d{2})"
    r"|(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"
    rf"|\d{{1,2}}[-. ]?({_MONTHS})[a-z]*[-. ]?\d{{2,4}}|({_MONTHS})[a-z]* \d{{1,2}},? \d{{4}}",
    re.IGNORECASE,
)
_NEW_YEAR: Final = re.compile(r"\d{4}-01-01([T ]00:00:00(\.0+)?)?")
_EMAIL_FORM: Final = re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}")
_URL_FORM: Final = re.compile(r"(https?|ftp)://\S+|www\.\S+\.\S+", re.IGNORECASE)
_SSN_FORM: Final = re.compile(r"(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}")
_PHONE_FORM: Final = re.compile(r"(\+|00|\(|0)[\d\s()/.-]{7,20}|\d{3}[-. ]\d{3}[-. ]\d{4}")
_NAME_FORM: Final = re.compile(r"[^\W\d_a-z][\w'´-]+, ?[^\W\d_a-z][\w'´. -]+")
_PLATE_FORM: Final = re.compile(r"(?=.*\d)(?=.*[A-Z])[A-HJ-NPR-Z0-9]{17}")


def _is_ip(text: str) -> bool:
    if text.count(".") != 3 and text.count(":") < 2:
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_phone(text: str) -> bool:
    return bool(_PHONE_FORM.fullmatch(text)) and not _DATE_FORM.fullmatch(text) and sum(map(str.isdigit, text)) >= 7


def _is_free_text(text: str) -> bool:
    return len(text) > 40 and text.count(" ") >= 6


def _names(*alternatives: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(alternative.split()) for alternative in alternatives)


_AGE_WORDS: Final = frozenset({"age", "ages", "alter", "edad", "età", "eta", "âge"})
_BIRTH_WORDS: Final = frozenset({"birth", "birthyear", "yob", "geburtsjahr", "nacimiento", "naissance", "nascita"})
_POSTAL_WORDS: Final = frozenset({"zip", "zipcode", "postcode", "postal", "plz", "postleitzahl"})
_SMALL_ZIP3: Final = frozenset(
    f"{code:03d}" for code in (36, 59, 63, 102, 203, 556, 692, 790, 821, 823, 830, 831, 878, 879, 884, 890, 893)
)

_DROP: Final = "drop it, or make it an identifier in the schema"
_DATE: Final = _Rule(
    "C",
    "holds dates finer than the year",
    "generalise it to the year",
    matches=lambda text: bool(_DATE_FORM.fullmatch(text)),
)
_CODE: Final = _Rule("R", "is different for every row, as a code or number of a person is", _DROP)
_RULES: Final = (
    _Rule(
        "A",
        "holds names",
        _DROP,
        _names(
            "surname",
            "lastname",
            "firstname",
            "forename",
            "middlename",
            "maidenname",
            "familyname",
            "givenname",
            "fullname",
            "patientname",
            "nachname",
            "vorname",
            "apellido",
            "apellidos",
            "nombre",
            "nom",
            "prénom",
            "prenom",
            "cognome",
            "nome",
            "initials",
        ),
        lambda text: bool(_NAME_FORM.fullmatch(text)),
        0.8,
    ),
    _DATE,
    _Rule("E", "holds fax numbers", _DROP, _names("fax", "faxnumber", "telefax")),
    _Rule(
        "D",
        "holds telephone numbers",
        _DROP,
        _names("phone", "telephone", "tel", "mobile", "cellphone", "telefon", "handy", "teléfono", "telefono"),
        _is_phone,
        0.5,
    ),
    _Rule(
        "F",
        "holds e-mail addresses",
        _DROP,
        _names("email", "mail", "emails", "correo", "courriel"),
        lambda text: bool(_EMAIL_FORM.fullmatch(text)),
    ),
    _Rule(
        "G",
        "holds social security numbers",
        _DROP,
        _names("ssn", "social security", "socialsecurity", "sozialversicherungsnummer", "svnr", "nss", "dni", "nhs"),
        lambda text: bool(_SSN_FORM.fullmatch(text)),
    ),
    _Rule(
        "H",
        "holds medical record numbers",
        _DROP,
        _names(
            "mrn",
            "record number",
            "medicalrecord",
            "recordnumber",
            "recordno",
            "patient id",
            "patientid",
            "pid",
            "patient number",
            "patientnumber",
            "patnr",
            "fallnummer",
            "historia clinica",
            "chart number",
        ),
    ),
    _Rule(
        "I",
        "holds health plan beneficiary numbers",
        _DROP,
        _names(
            "beneficiary",
            "insurance number",
            "insuranceid",
            "insurance id",
            "member id",
            "policy number",
            "versichertennummer",
            "krankenkasse nummer",
        ),
    ),
    _Rule("J", "holds account numbers", _DROP, _names("account", "iban", "konto", "kontonummer", "cuenta")),
    _Rule(
        "L",
        "holds vehicle identifiers",
        _DROP,
        _names("vin", "vehicle", "license plate", "numberplate", "kennzeichen", "matrícula"),
        lambda text: bool(_PLATE_FORM.fullmatch(text)),
    ),
    _Rule("K", "holds certificate or licence numbers", _DROP, _names("license", "licence", "certificate", "passport")),
    _Rule(
        "M",
        "holds device identifiers",
        _DROP,
        _names("serial number", "serialno", "device id", "deviceid", "udi", "imei", "mac address"),
    ),
    _Rule(
        "N",
        "holds web addresses",
        _DROP,
        _names("url", "website", "homepage", "webpage"),
        lambda text: bool(_URL_FORM.fullmatch(text)),
    ),
    _Rule("O", "holds network addresses", _DROP, _names("ip", "ipaddress", "ipv4", "ipv6"), _is_ip),
    _Rule(
        "P",
        "holds biometric identifiers",
        _DROP,
        _names("fingerprint", "voiceprint", "retina", "iris scan", "biometric"),
    ),
    _Rule("Q", "holds photographs", _DROP, _names("photo", "photograph", "face image", "portrait", "faceimage")),
    _Rule(
        "B",
        "holds places smaller than a state",
        "generalise it to the state or country, or drop it",
        _names(
            "street",
            "address",
            "city",
            "town",
            "county",
            "district",
            "municipality",
            "parish",
            "precinct",
            "latitude",
            "longitude",
            "lat",
            "lon",
            "xcoord",
            "ycoord",
            "geocode",
            "straße",
            "strasse",
            "adresse",
            "wohnort",
            "stadt",
            "ciudad",
            "calle",
            "dirección",
            "direccion",
            "ville",
            "rue",
            "comune",
            "indirizzo",
            "città",
        ),
    ),
    _Rule(
        "R",
        "holds free text, which can hold any of the identifiers",
        "drop it, or code what is needed",
        matches=_is_free_text,
    ),
)
