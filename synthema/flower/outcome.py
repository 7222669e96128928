"""How a job ended, in lines of a run's log: the way back from a ServerApp to the researcher who started it.

    synthema-outcome 2/7 <base64>      the second of seven pieces of a head and, if the job is done, its sealed result

Whoever runs the SuperLink can read and change the log. A result opens only if the lead sealed it for this researcher;
an error is believed, as a hub's is.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from synthema.errors import JobFailed, SiteFailed, SiteRefused, SynthemaError
from synthema.messages import Code, Text
from synthema.networks.orders import OrderHead, OrderRejected

LABEL = "synthema-outcome"
_PIECE = 12_000
_MOST_PIECES = 100_000
_Short = Annotated[str, Field(max_length=80)]


class Outcome(OrderHead):
    """How a job ended; the payload of one that is done is its sealed result.

    site    who refused or failed; empty if it is no site's fault
    reason  of a refusal, or the name of the error
    """

    state: Literal["done", "refused", "failed"]
    site: _Short = ""
    reason: Code = ""
    step: _Short = ""
    explanation: Text = ""

    @classmethod
    def of_error(cls, error: SynthemaError) -> Outcome:
        """Return an error as an outcome."""
        if isinstance(error, SiteRefused):
            text = error.explanation[:2000]
            return cls(state="refused", site=error.site, reason=error.reason, explanation=text)
        if isinstance(error, SiteFailed):
            return cls(state="failed", site=error.site, step=error.step, explanation=error.error[:2000])
        name = error.rule if isinstance(error, JobFailed) else type(error).__name__
        return cls(state="failed", reason=name[:80], explanation=str(error)[:2000])

    def raise_error(self) -> None:
        """Raise what went wrong, if anything did."""
        if self.state == "refused":
            raise SiteRefused(site=self.site, reason=self.reason, explanation=self.explanation)
        if self.state == "failed" and self.site:
            raise SiteFailed(site=self.site, step=self.step, error=self.explanation)
        if self.state == "failed":
            raise JobFailed(self.reason or "failed", self.explanation)


def lines_of(outcome: Outcome, result: bytes = b"") -> Iterator[str]:
    """Return the lines of an outcome."""
    data = outcome.encode(result)
    pieces = [data[i : i + _PIECE] for i in range(0, len(data), _PIECE)]
    for number, piece in enumerate(pieces, start=1):
        yield f"{LABEL} {number}/{len(pieces)} {base64.b64encode(piece).decode()}"


class OutcomeReader:
    """Puts an outcome together from a log, line by line; other lines come between.

    Examples
    --------
    >>> reader = OutcomeReader()
    >>> for line in ["INFO : started", *lines_of(Outcome(state="done"), b"sealed")]:
    ...     reader.take(line)
    >>> reader.outcome()[1]
    b'sealed'
    """

    def __init__(self) -> None:
        self._pieces: dict[int, bytes] = {}
        self._count = 0

    def take(self, line: str) -> None:
        """Take a line of the log. One that only looks like a piece is passed over."""
        label, _, rest = line.strip().partition(" ")
        where, _, text = rest.partition(" ")
        number, _, count = where.partition("/")
        if label != LABEL or not (number.isdecimal() and count.isdecimal() and 0 < int(count) <= _MOST_PIECES):
            return
        try:
            piece = base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            return
        self._count = int(count)
        self._pieces.setdefault(int(number), piece)

    def outcome(self) -> tuple[Outcome, bytes]:
        """Return how the job ended, and its sealed result. Raises JobFailed if the log does not say."""
        if not self._count or any(number not in self._pieces for number in range(1, self._count + 1)):
            raise JobFailed("flower", "the run ended without saying how the job ended: read its log with `flwr log`")
        data = b"".join(self._pieces[number] for number in range(1, self._count + 1))
        try:
            return Outcome.decode(data)
        except OrderRejected as error:
            raise JobFailed("flower", f"the run's log is not understood: {error.rule}") from None
