"""What can go wrong when sites work together: one root, reasons that a researcher may see, no patient's value."""

from __future__ import annotations

from typing import Literal

InputRule = Literal["shape", "margins", "total", "cells"]

_INPUT_RULES: dict[InputRule, str] = {
    "shape": "its vector has not the public length",
    "margins": "its marginals do not agree on one total and on each other's margins",
    "total": "its total lies outside the declared range",
    "cells": "a count is negative, or above the declared cap",
}


class SynthemaError(Exception):
    """Root of every error that this package raises on purpose."""


class TableError(SynthemaError):
    """A file is not a table that can be read as it is; the message says which rule it breaks and the way out."""


class RowsNeeded(SynthemaError):
    """A step needs rows, but the site's table stays in its database or file and is only counted there."""

    def __init__(self) -> None:
        super().__init__(
            'this step needs a table in memory, but the site\'s table is counted where it is: set load = "frame" in '
            "[data] if it fits into memory"
        )


class StudyError(SynthemaError):
    """A study document is not one; the message names the field, the rule and the way out."""


class PolicyError(SynthemaError):
    """The policy of a release is not one; the message names the field, the rule and the way out."""


class CatalogueError(SynthemaError):
    """An entry of a catalogue cannot be made, or is not what it says; the message names the rule and the way out."""


class SignatureInvalid(SynthemaError):
    """A document's signature does not fit its bytes and key."""


class SiteRefused(SynthemaError):
    """A site said no before any data were touched; nothing was charged anywhere.

    `reason` is one of a fixed list of codes, so that a refusal tells the researcher nothing but the rule.
    """

    def __init__(self, *, site: str, reason: str, explanation: str) -> None:
        self.site = site
        self.reason = reason
        self.explanation = explanation
        super().__init__(f"site {site!r} refused ({reason}): {explanation}")


class SiteFailed(SynthemaError):
    """A site stopped answering after the study had started. What had been started stays charged at every site."""

    def __init__(self, *, site: str, step: str, error: str) -> None:
        self.site = site
        self.step = step
        self.error = error
        super().__init__(
            f"site {site!r} failed in step {step!r} ({error}); the study stopped, steps that had started stay charged "
            "at every site and later ones were voided"
        )


class JobFailed(SynthemaError):
    """A job ended at all sites for a reason that is no site's fault. What had started stays charged."""

    def __init__(self, rule: str, explanation: str) -> None:
        self.rule = rule
        super().__init__(f"the study stopped ({rule}): {explanation}")


class MailRejected(SynthemaError):
    """What came in the name of a partner is not what it sealed for this site; nothing of it is used."""

    def __init__(self, partner: str, rule: str) -> None:
        self.partner = partner
        self.rule = rule
        super().__init__(f"mail in the name of {partner!r} is rejected: {rule}")


class SiteInputInvalid(SynthemaError):
    """What a site shared cannot be counts of patients; found on shares, nothing was opened.

    `rule` names the first rule that it breaks, and no number: by how much, and where, stays hidden.
    """

    def __init__(self, *, site: str, rule: InputRule) -> None:
        self.site = site
        self.rule = rule
        super().__init__(f"site {site!r} shared what cannot be counts of patients: {_INPUT_RULES[rule]}")


class OverlapTooLarge(SynthemaError):
    """The overlap check found more shared pseudonyms than `max_sites_per_patient` allows for."""

    def __init__(self, *, allowed_sites: int) -> None:
        super().__init__(
            f"more patients than noise explains are known to over {allowed_sites} site(s): the stated "
            "max_sites_per_patient does not hold; remove the duplicates, or state a larger number (with more noise)"
        )


class DisclosureRefused(SynthemaError):
    """An exact result was not opened because it would describe too few patients."""


class ModelFailed(SynthemaError):
    """A joint model could not be fitted (separation, collinearity, no convergence); the message says which."""


class QuestionRefused(SynthemaError):
    """A compute party stopped a joint synthesis: what the lead asked is not covered by the study, or not well formed.

    Nothing was opened for the question. What had been started stays charged at every site.
    """

    def __init__(self, rule: str) -> None:
        self.rule = rule
        super().__init__(f"the joint synthesis was stopped: {rule}; nothing was opened for the question")


class SynthesisFailed(SynthemaError):
    """The mechanism failed at the lead party. What had been started stays charged at every site."""

    def __init__(self, error: str) -> None:
        self.error = error
        super().__init__(f"the mechanism of the joint synthesis failed ({error}); there is no synthetic table")
