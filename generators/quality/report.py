"""What an evaluation found, as a value: for scripts as JSON, for people as one HTML page. INTERNAL.

Every number in it was computed on private rows and none was paid for. It stays with whoever holds the rows.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from generators.quality.fidelity import Fidelity
from generators.quality.follow_up import FollowUp
from generators.quality.privacy_section import Privacy
from generators.quality.rulers import Figure, Verdict, worst
from generators.quality.utility import Utility

FORMAT, VERSION = "synthema-evaluation", 1
NOTICE = (
    "INTERNAL. Every number in this report was computed on private rows, without noise and without being paid for in a "
    "ledger. Do not share it outside the house that holds the rows."
)
NO_GUARANTEE = (
    "Nearness to the real table is no guarantee of privacy, and neither is an attack that failed: a copy of the real "
    "patients scores perfectly wherever nearness is measured. The guarantee is the differential privacy that the "
    "generator was run with."
)


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """One evaluation of one synthetic table. INTERNAL.

    table                                name in the schema
    rows_real, rows_synthetic, rows_holdout   numbers of rows; None without a holdout
    n_resamples                          resamples behind each floor
    utility, survival, privacy           None where there was nothing to measure; `notes` says why
    """

    table: str
    rows_real: int
    rows_synthetic: int
    rows_holdout: int | None
    n_resamples: int
    fidelity: Fidelity
    utility: Utility | None
    survival: FollowUp | None
    privacy: Privacy | None
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        """Name the table only: a repr ends up in logs, numbers from private rows must not."""
        return f"Report(INTERNAL, table={self.table!r})"

    @property
    def verdicts(self) -> dict[str, Verdict | None]:
        """The worst verdict of each section's figures; None where there is no figure with one."""
        return {
            "fidelity": worst(self.fidelity.figures),
            "utility": None if self.utility is None else worst([each.loss for each in self.utility.predictions]),
            "survival": None if self.survival is None else worst(self.survival.figures),
            "privacy": None if self.privacy is None else self.privacy.verdict,
        }

    @property
    def figures(self) -> dict[str, Figure]:
        """Every figure with rulers, by name."""
        found = list(self.fidelity.figures)
        if self.utility is not None:
            found += [each.loss for each in self.utility.predictions]
        if self.survival is not None:
            found += self.survival.figures
        return {each.name: each for each in found}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: see `to_json`."""
        verdicts = self.verdicts
        sections = {
            name: None if part is None else {"verdict": verdicts[name], **_plain(part)}
            for name, part in (
                ("fidelity", self.fidelity),
                ("utility", self.utility),
                ("survival", self.survival),
                ("privacy", self.privacy),
            )
        }
        return {
            "format": FORMAT,
            "version": VERSION,
            "internal": True,
            "notice": NOTICE,
            "no_guarantee": NO_GUARANTEE,
            "table": self.table,
            "rows": {"real": self.rows_real, "synthetic": self.rows_synthetic, "holdout": self.rows_holdout},
            "resamples": self.n_resamples,
            "sections": sections,
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """Return the report as JSON. Within a version, keys are only added; what could not be computed is null."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False)

    def to_html(self) -> str:
        """Return the report as one page that loads nothing and runs no script."""
        # Drawing needs templates and charts, which a script that wants JSON does not.
        from generators.quality.page import render

        return render(self)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
