"""Short questions between members outside of any job: a witness that is asked for its cosignature.

A question has a number; the answer that comes back under it, from the member that was asked, in time, is taken. Both
are public or signed by themselves: nothing secret is asked in this way.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from privacy.ledger import LocalWitness, WitnessConflict, WitnessRefused, WitnessUnavailable


@dataclass(frozen=True, slots=True)
class Question:
    """A question, or the answer to one: of the same number, with `what` = "answer"."""

    what: Literal["witness", "answer"]
    number: int
    payload: bytes


class Post(Protocol):
    """Sends a question or answer to a member; returns False if the member is known to be away."""

    def __call__(self, to: str, question: Question, /) -> bool:
        """Send."""
        ...


class Asking:
    """Asks other members, and waits. `deliver` takes answers, from the courier's thread.

    A question may be lost while a line is down; `resume` asks again what is still waited for.
    """

    def __init__(self, post: Post) -> None:
        self._post = post
        self._changed = threading.Condition()
        self._open: dict[int, tuple[str, bytes]] = {}
        self._answers: dict[int, bytes] = {}

    def ask(self, to: str, payload: bytes, *, within: float) -> bytes | None:
        """Return the answer, or None if there is none in time."""
        # Not to be guessed: an answer is taken for what was asked, not for what is asked next.
        number = secrets.randbits(52)
        with self._changed:
            self._open[number] = to, payload
            try:
                if not self._post(to, Question("witness", number, payload)):
                    return None
                self._changed.wait_for(lambda: number in self._answers, within)
                return self._answers.pop(number, None)
            finally:
                del self._open[number]

    def resume(self, member: str | None = None) -> None:
        """Ask again what a member, or any, has not answered: it, or the line, was away."""
        with self._changed:
            for number, (to, payload) in self._open.items():
                if member in (None, to) and number not in self._answers:
                    self._post(to, Question("witness", number, payload))

    def deliver(self, sender: str, answer: Question) -> None:
        """Take an answer. One that nobody waits for, or of another member, is dropped."""
        with self._changed:
            if answer.number in self._open and self._open[answer.number][0] == sender:
                self._answers[answer.number] = answer.payload
                self._changed.notify_all()


class RemoteWitness:
    """A partner site as witness of this site's ledger (`privacy.ledger.Witness`).

    Parameters
    ----------
    site
        The partner.
    vkey
        Its witness key, as this site has pinned it.
    asking
        How it is asked.
    within
        Seconds.
    """

    def __init__(self, site: str, vkey: str, asking: Asking, *, within: float = 10.0) -> None:
        self._site, self._vkey, self._asking, self._within = site, vkey, asking, within

    def __repr__(self) -> str:
        return f"RemoteWitness({self._site!r})"

    @property
    def name(self) -> str:
        """The partner's name."""
        return self._site

    @property
    def vkey(self) -> str:
        """Its key as text."""
        return self._vkey

    def add_checkpoint(self, *, old_size: int, proof: Sequence[bytes], note: str) -> str:
        """Return a cosignature line: see `privacy.ledger.Witness.add_checkpoint`."""
        question = {"old_size": old_size, "proof": [node.hex() for node in proof], "note": note}
        data = self._asking.ask(self._site, json.dumps(question).encode(), within=self._within)
        if data is None:
            raise WitnessUnavailable(f"site {self._site!r} did not answer within {self._within:g} s")
        try:
            answer: dict[str, Any] = json.loads(data)
            match answer:
                case {"line": str(line)}:
                    return line
                case {"conflict": int(size)}:
                    raise WitnessConflict(size)
                case {"refused": str(reason), "sentence": str(sentence), "size": (int() | None) as size}:
                    raise WitnessRefused(reason, sentence, size=size)  # type: ignore[arg-type]
                case _:
                    raise WitnessUnavailable(f"site {self._site!r} could not keep its state")
        except (ValueError, RecursionError):
            raise WitnessUnavailable(f"site {self._site!r} sent no answer") from None


def answer_as_witness(witness: LocalWitness, payload: bytes) -> bytes:
    """Return this site's answer to a partner that asks for a cosignature."""
    try:
        question = json.loads(payload)
        proof = [bytes.fromhex(node) for node in question["proof"]]
        line = witness.add_checkpoint(old_size=question["old_size"], proof=proof, note=question["note"])
        answer: dict[str, Any] = {"line": line}
    except WitnessConflict as conflict:
        answer = {"conflict": conflict.size}
    except WitnessRefused as refused:
        answer = {"refused": refused.reason, "sentence": str(refused), "size": refused.size}
    except WitnessUnavailable:
        answer = {"unavailable": True}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        answer = {"refused": "malformed", "sentence": "the question is malformed", "size": None}
    return json.dumps(answer).encode()
