"""Orders to a site and its answers, for networks that carry one message to a site and bring one back.

    offer     a submission, whole        answered by the site's decision
    run       a job that it accepted     answered by how it ended there; by the lead with the sealed result
    cancel    a job that is over         answered when nothing is reserved for it any more

An order, and an answer, is one string of bytes: the length of its head (4 bytes, little-endian), the head (JSON), and a
payload up to the end. Whoever carries it need not understand it. Nobody is authenticated by it: a submission is signed
by its researcher, a result sealed by the lead, and whom a site talks to in a run is settled by pinned keys.
"""

from __future__ import annotations

import struct
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from synthema.errors import SynthemaError
from synthema.messages import Code, JobId, Name, Text
from synthema.networks.base import Decision, Ending

MOST_HEAD_BYTES = 1 << 15
_LENGTH = struct.Struct("<I")
_Seconds = Annotated[float, Field(gt=0, le=90 * 86400.0, allow_inf_nan=False)]


class OrderRejected(SynthemaError):
    """What came is no order, or no answer to one."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        super().__init__(f"what came is no order or answer: {rule}")


class OrderHead(BaseModel):
    """What stands before the payload."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def encode(self, payload: bytes = b"") -> bytes:
        """Return head and payload as bytes."""
        head = self.model_dump_json().encode()
        return b"".join((_LENGTH.pack(len(head)), head, payload))

    @classmethod
    def decode(cls, data: bytes) -> tuple[Self, bytes]:
        """Return head and payload. Raises OrderRejected."""
        if len(data) < _LENGTH.size:
            raise OrderRejected("it is too short")
        (length,) = _LENGTH.unpack_from(data)
        rest = memoryview(data)[_LENGTH.size :]
        if length > min(len(rest), MOST_HEAD_BYTES):
            raise OrderRejected("its head is longer than it is, or than a head may be")
        try:
            return cls.model_validate_json(bytes(rest[:length])), bytes(rest[length:])
        except ValidationError:
            raise OrderRejected("its head is not understood") from None


class Order(OrderHead):
    """What a site is asked.

    within       seconds that the answer is waited for
    run_seconds  how long the job may take, of a run; how long an offer stands, of an offer
    site, error  of a cancel: who ended the job, and why
    """

    what: Literal["offer", "run", "cancel"]
    job: JobId
    within: _Seconds
    run_seconds: _Seconds = 3600.0
    site: Name | None = None
    error: Text = ""


class Answer(OrderHead):
    """What a site says.

    site         who answers
    state        "accepted", "refused", "waiting" to an offer; "done", "failed" to a run; "cancelled"; "down" if the
                 site's agent could not be asked
    reason       of a refusal; explanation of it, or of an error
    blamed, step of a failure: who is to blame, and in which step; nobody, if it is no site's fault
    """

    site: Annotated[str, Field(max_length=63)]
    state: Literal["accepted", "refused", "waiting", "done", "failed", "cancelled", "down"]
    reason: Code = ""
    explanation: Text = ""
    blamed: Annotated[str, Field(max_length=63)] = ""
    step: Annotated[str, Field(max_length=80)] = ""

    @classmethod
    def of_decision(cls, site: str, decision: Decision) -> Answer:
        """Return a decision as an answer."""
        text = decision.explanation[:2000]
        return cls(site=site, state=decision.state, reason=decision.reason, explanation=text)

    @classmethod
    def of_ending(cls, site: str, ending: Ending) -> Answer:
        """Return an ending as an answer."""
        text = ending.error[:2000]
        return cls(site=site, state=ending.state, blamed=ending.site, step=ending.step[:80], explanation=text)

    def decision(self) -> Decision:
        """Return the decision that this is."""
        if self.state in ("accepted", "refused", "waiting"):
            return Decision(self.state, self.reason, self.explanation)
        return Decision("refused", self.reason or "site", self.explanation or "it gave no answer to an offer")

    def ending(self) -> Ending:
        """Return the ending that this is."""
        if self.state == "done":
            return Ending("done")
        if self.state == "failed":
            return Ending("failed", self.blamed, self.step, self.explanation)
        return Ending("failed", self.site, "run", self.explanation or "it gave no answer to a start")
