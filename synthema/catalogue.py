"""A catalogue of data sets: what a site says of its table to whoever looks for data, signed by the site.

An entry has the terms of DCAT (title, publisher, spatial and temporal coverage, legal basis, purpose), the public
schema with its hash, and a number of patients that is never the exact one:

    noisy      with discrete Gaussian noise, paid for once in the table's ledger; the same rows give the stored number
    at least   the policy's least cohort, which is public; costs nothing and says little

The hub stores what sites publish and adds nothing. Whoever reads an entry checks the signature against the key that
they know the site by, and the schema against its hash.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from privacy import DiscreteGaussian, KeyReused, Schema, SchemaError, SpentWithoutAnswer, epsilon_to_rho
from privacy.mechanisms import noisy_count
from smpc.transport.roster import Identity, verify_signature
from synthema.errors import CatalogueError
from synthema.job import PRIVATE_ACCOUNT
from synthema.signing import canonical_json
from synthema.site import Site

FORMAT: Final = "synthema-catalogue-1"
LARGEST_ENTRY_BYTES: Final = 2_000_000
_LABEL = b"synthema/catalogue/v1\n"
_NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Description(_Section):
    """What a site writes of its table: `[catalogue]` in its TOML. Plain words, no number from the table.

    spatial                      where the patients come from
    temporal_start, _end         when they were seen, as the protocol says
    legal_basis                  why the site may hold and use the data
    purposes                     what a study may use them for
    keywords                     for searching
    """

    title: str = Field(min_length=3, max_length=300)
    description: str = Field(default="", max_length=5000)
    publisher: str = Field(min_length=1, max_length=300)
    contact: str = Field(default="", max_length=300)
    spatial: str = Field(min_length=1, max_length=300)
    temporal_start: date | None = None
    temporal_end: date | None = None
    legal_basis: str = Field(min_length=1, max_length=1000)
    purposes: tuple[str, ...] = Field(min_length=1, max_length=50)
    keywords: tuple[str, ...] = Field(default=(), max_length=50)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if (
            self.temporal_start is not None
            and self.temporal_end is not None
            and self.temporal_start > self.temporal_end
        ):
            raise ValueError("temporal_start is after temporal_end")
        return self


class Patients(_Section):
    """How many patients: `kind` says how the number came about.

    epsilon, delta   of a noisy number: what it cost by itself; None otherwise
    noise_std        of a noisy number: the standard deviation of its noise, before it is cut off at zero
    """

    kind: Literal["noisy", "at-least"]
    number: int = Field(ge=0)
    epsilon: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    delta: float | None = Field(default=None, gt=0, lt=1, allow_inf_nan=False)
    noise_std: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class CatalogueEntry(_Section):
    """What a site publishes of one table."""

    format: Literal["synthema-catalogue-1"]
    site: str = Field(pattern=_NAME)
    issued: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
    description: Description
    schema_hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    data_schema: dict[str, Any]
    patients: Patients

    def public_schema(self) -> Schema:
        """Return the table's public schema."""
        return Schema.from_dict(self.data_schema)

    def dcat(self) -> dict[str, Any]:
        """Return the entry in the words of DCAT, as JSON-LD."""
        about = self.description
        period = {
            "@type": "dct:PeriodOfTime",
            "dcat:startDate": None if about.temporal_start is None else about.temporal_start.isoformat(),
            "dcat:endDate": None if about.temporal_end is None else about.temporal_end.isoformat(),
        }
        return {
            "@context": {"dcat": "http://www.w3.org/ns/dcat#", "dct": "http://purl.org/dc/terms/"},
            "@type": "dcat:Dataset",
            "dct:title": about.title,
            "dct:description": about.description,
            "dct:publisher": about.publisher,
            "dcat:contactPoint": about.contact,
            "dct:spatial": about.spatial,
            "dct:temporal": {name: value for name, value in period.items() if value is not None},
            "dct:accessRights": about.legal_basis,
            "dct:conformsTo": f"sha256:{self.schema_hash}",
            "dct:issued": self.issued,
            "dcat:keyword": list(about.keywords),
            "synthema:purpose": list(about.purposes),
            "synthema:patients": self.patients.model_dump(exclude_none=True),
        }


def entry_of(site: Site, section: Mapping[str, Any], *, identity: Identity) -> bytes:
    """Return the signed entry that a site's `[catalogue]` asks for: its description, and `epsilon` for the number.

    Raises
    ------
    CatalogueError
        Naming every field that is wrong; and as `make_entry` does.
    """
    fields = dict(section)
    epsilon = fields.pop("epsilon", None)
    if epsilon is not None and (isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or epsilon <= 0):
        raise CatalogueError("catalogue.epsilon must be a number > 0, or left out for no number but the least cohort")
    try:
        described = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
        description = Description.model_validate(described)
    except ValidationError as error:
        problems = [f"catalogue.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise CatalogueError("; ".join(problems)) from None
    return make_entry(site, description, identity=identity, epsilon=None if epsilon is None else float(epsilon))


def make_entry(
    site: Site,
    description: Description,
    *,
    identity: Identity,
    epsilon: float | None = None,
    now: datetime | None = None,
) -> bytes:
    """Return a signed entry for a site's table, to be published.

    Parameters
    ----------
    identity
        The site's own key, which its partners have pinned.
    epsilon
        What the number of patients may cost by itself at the account's delta, once for these rows. None: no number but
        the policy's least cohort.
    now
        When it is issued; by default now.

    Raises
    ------
    CatalogueError
        The table is smaller than the least cohort; its number was paid for at another epsilon, or without an answer.
    BudgetExceeded
        The ledger has no room: nothing was charged.
    """
    if not site.data.n_rows_at_least(site.policy.min_patients):
        raise CatalogueError(
            "the table is smaller than the policy's least cohort: nothing is published of it, for it would take part "
            "in no study"
        )
    patients = _at_least(site) if epsilon is None else _noisy(site, epsilon)
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    body = {
        "format": FORMAT,
        "site": site.name,
        "issued": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "description": description.model_dump(mode="json"),
        "schema_hash": site.schema.content_hash(),
        "data_schema": site.schema.to_dict(),
        "patients": patients.model_dump(mode="json"),
    }
    text = canonical_json(body)
    envelope = {
        "entry": text.decode(),
        "key": identity.public.hex(),
        "signature": identity.sign(_LABEL + text).hex(),
    }
    return canonical_json(envelope)


def verify_entry(data: bytes, *, identity: bytes, site: str) -> CatalogueEntry:
    """Return an entry that the site with this key has signed.

    Parameters
    ----------
    data
        What `make_entry` gave, from whoever stores it.
    identity
        The site's Ed25519 public key, 32 bytes, as the reader knows it: not as the entry says.
    site
        The site's name.

    Raises
    ------
    CatalogueError
        It is no entry, another key signed it, it is about another site, or its schema does not fit its hash.
    """
    if len(data) > LARGEST_ENTRY_BYTES:
        raise CatalogueError(f"an entry has at most {LARGEST_ENTRY_BYTES} bytes")
    try:
        envelope = json.loads(data)
        text, key, signature = envelope["entry"].encode(), envelope["key"], bytes.fromhex(envelope["signature"])
        if key != identity.hex() or not verify_signature(identity, signature, _LABEL + text):
            raise CatalogueError("the entry was not signed by the key that the site is known by")
        # JSON mode: lists for tuples and texts for dates, and nothing else is converted.
        entry = CatalogueEntry.model_validate_json(text)
        fits = entry.public_schema().content_hash() == entry.schema_hash
    except (ValidationError, SchemaError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CatalogueError("it is no entry of a catalogue") from None
    if entry.site != site:
        raise CatalogueError("the entry is about another site")
    if not fits:
        raise CatalogueError("the entry's schema does not fit its hash")
    return entry


def _at_least(site: Site) -> Patients:
    return Patients(kind="at-least", number=site.policy.min_patients)


def _noisy(site: Site, epsilon: float) -> Patients:
    """Return the noisy number: drawn once for these rows, and stored with its charge."""
    delta = site.policy.delta_cap
    rho = epsilon_to_rho(epsilon, delta)
    # The event follows from rho alone: asked of no rows, before anything is charged. The account adds up rho, in which
    # Gaussian noise is the cheaper one.
    _, event = noisy_count([0], neighbours="add_remove_one", rho=rho)
    if not isinstance(event, DiscreteGaussian):  # pragma: no cover - what rho asks for
        raise CatalogueError("the number cannot be paid for")
    try:
        with site.ledger.spend(
            PRIVATE_ACCOUNT,
            event,
            key=f"catalogue/patients/{site.data_version}",
            purpose="catalogue: noisy number of patients",
            data_version=site.data_version,
        ) as spend:
            if spend.answered:
                number = int(spend.stored)
            else:
                flags = [1] * site.data.n_rows
                drawn, _ = noisy_count(flags, neighbours="add_remove_one", rho=rho, rng=site.rng)
                number = int(spend.release(max(drawn, 0)))
    except KeyReused:
        raise CatalogueError(
            "these rows' number was published at another epsilon: give that one, and the stored number is used"
        ) from None
    except SpentWithoutAnswer:
        raise CatalogueError(
            "these rows' number was charged and not stored: publish the least cohort (epsilon = None)"
        ) from None
    return Patients(kind="noisy", number=number, epsilon=epsilon, delta=delta, noise_std=event.scale)
