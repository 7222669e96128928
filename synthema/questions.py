"""What the lead of a joint synthesis asks the other compute parties: typed text and one array, never code.

A message is a line of JSON and, for a choice, the public estimates behind it (`privacy.ledger.answers`). A reader takes
nothing that it would not have written: unknown fields, other types, numbers that are not finite and bytes left over are
refused. Whether a question fits the study is checked by whoever answers it (`conducting`).
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from privacy.ledger.answers import decode_answer, encode_answer
from synthema.errors import QuestionRefused

# Estimates and penalties are in units of 2^-4 rows.
LARGEST_NUMBER = 1 << 44
LARGEST_WEIGHT = 1 << 20
MOST_MARGINALS = 1 << 19

# A JSON line of half a million names is the longest there is.
MOST_BYTES = 1 << 28

_Name = Annotated[str, Field(min_length=1, max_length=1000)]
_Clique = Annotated[tuple[_Name, ...], Field(min_length=1, max_length=32)]
_Groups = dict[_Name, tuple[Annotated[int, Field(ge=0)], ...]]
_Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Measure(_Question):
    """Open these marginals with joint noise, together, at a price of at most rho.

    groups   of a column whose codes are merged: the number of each code's group
    """

    kind: Literal["measure"] = "measure"
    cliques: tuple[_Clique, ...] = Field(min_length=1, max_length=MOST_MARGINALS)
    rho: _Rate
    groups: _Groups = {}


class Select(_Question):
    """Open the index of a candidate that lies far from its estimate.

    known      for each candidate the number of an earlier distance that is to be used again (they are numbered in the
               order in which they were computed), or -1: its estimate then is part of the message's array
    weights    one for each candidate, or none: all one
    penalties  in units of 2^-4 rows, or none: all zero
    """

    kind: Literal["select"] = "select"
    candidates: tuple[_Clique, ...] = Field(min_length=1, max_length=MOST_MARGINALS)
    known: tuple[Annotated[int, Field(ge=-1)], ...]
    epsilon: _Rate
    weights: tuple[Annotated[int, Field(ge=1, le=LARGEST_WEIGHT)], ...] = ()
    penalties: tuple[Annotated[int, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)], ...] = ()
    groups: _Groups = {}


class Wait(_Question):
    """The lead is computing; nothing is asked. Sent so that no party takes it for gone."""

    kind: Literal["wait"] = "wait"


class Failed(_Question):
    """The mechanism failed. `error`: the type, never a text."""

    kind: Literal["failed"] = "failed"
    error: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")


class Finished(_Question):
    """The answer, as bytes of `encode_answer`, follows instead of an array."""

    kind: Literal["finished"] = "finished"


Question = Measure | Select | Wait | Failed | Finished

_QUESTIONS: TypeAdapter[Question] = TypeAdapter(Annotated[Question, Field(discriminator="kind")])


def encode_question(question: Question, array: npt.NDArray[np.int64] | None = None) -> bytes:
    r"""Return the message of a question, with the estimates of a choice.

    Examples
    --------
    >>> encode_question(Wait())
    b'{"kind":"wait"}\n'
    """
    line = json.dumps(question.model_dump(mode="json"), allow_nan=False, separators=(",", ":"), sort_keys=True)
    return line.encode() + b"\n" + (b"" if array is None else encode_answer(array))


def encode_finished(answer: bytes) -> bytes:
    """Return the last message: the answer's bytes behind their line."""
    return encode_question(Finished()) + answer


def decode_question(message: bytes) -> tuple[Question, bytes]:
    """Return the question and the bytes behind its line.

    Raises
    ------
    QuestionRefused
        If it is not what `encode_question` writes.
    """
    if len(message) > MOST_BYTES:
        raise QuestionRefused("a question is longer than any there is")
    line, newline, rest = message.partition(b"\n")
    if not newline:
        raise QuestionRefused("a message from the lead is no question")
    try:
        question = _QUESTIONS.validate_python(_tuples(json.loads(line)))
    except (ValidationError, ValueError, RecursionError):
        raise QuestionRefused("a message from the lead is no question") from None
    if encode_question(question).rstrip(b"\n") != line:
        raise QuestionRefused("a question is not written as it should be")
    if rest and not isinstance(question, Select | Finished):
        raise QuestionRefused("a question has bytes left over")
    return question, rest


def decode_estimates(data: bytes) -> npt.NDArray[np.int64]:
    """Return the estimates behind a choice's line; bytes that hold none are an empty array.

    Raises
    ------
    QuestionRefused
        If they are no list of whole numbers of at most 2^44.
    """
    if not data:
        return np.zeros(0, dtype=np.int64)
    try:
        array = decode_answer(data)
    except ValueError:
        raise QuestionRefused("the estimates of a choice are no array") from None
    if not isinstance(array, np.ndarray) or array.dtype != np.int64 or array.ndim != 1:
        raise QuestionRefused("the estimates of a choice are no list of whole numbers")
    if array.size and max(int(array.max()), -int(array.min())) > LARGEST_NUMBER:
        raise QuestionRefused("an estimate is larger than any number of rows")
    return array


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value
