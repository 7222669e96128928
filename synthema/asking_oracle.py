"""The oracle of a mechanism that runs in a thread of the lead party: each question waits until all parties answered it.

The mechanism blocks; the parties' rounds do not. So the mechanism runs in a thread, its questions travel to the event
loop as messages (`questions`), and answers come back through futures. When the run ends early, whatever the thread asks
next raises, and it ends as well.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from generators import Domain, DomainMismatch, Measurement
from generators.domain import Clique
from generators.grouping import Groups, check_groups, coarse_domain
from generators.oracle import checked_weights
from privacy import Event
from privacy.neighbours import Neighbours
from synthema.joint_noise import SCORE_BITS, JointTerms, event_of
from synthema.questions import LARGEST_NUMBER, Measure, Select, encode_question


@dataclass(frozen=True, slots=True)
class Asked:
    """A question on its way to the parties, and where its answer is waited for."""

    message: bytes
    reply: Future[Any]


@dataclass(frozen=True, slots=True)
class Ended:
    """The mechanism's thread has ended: with its result, or with an error."""

    result: Any = None
    error: Exception | None = None


class Stopped(Exception):
    """The run has ended."""


class AskingOracle:
    """A `generators.MarginalOracle` for a thread; `send` hands questions to the event loop.

    Parameters
    ----------
    domain
        Of the study's modelled columns.
    terms
        What prices depend on.
    send
        Takes an `Asked`, and at the end an `Ended`, from the thread.
    """

    neighbours: Neighbours = "add_remove_one"

    def __init__(self, domain: Domain, terms: JointTerms, *, send: Callable[[Asked | Ended], None]) -> None:
        self.domain = domain
        self.events: list[Event] = []
        self._terms, self._send = terms, send
        self._lock = threading.Lock()
        self._closed = False
        self._waiting: Future[Any] | None = None
        # Number of each distance that the parties keep, by marginal, groups and estimate.
        self._distances: dict[tuple[Clique, tuple[bytes, ...], bytes], int] = {}
        self._n_distances = 0

    def start(self, mechanism: Callable[[], Any]) -> None:
        """Run the mechanism in a thread that ends with the process, if nothing ends it before."""

        def work() -> None:
            try:
                ended = Ended(mechanism())
            except Stopped:
                return
            except Exception as error:  # noqa: BLE001 - handed to the event loop, which says so to all parties
                ended = Ended(error=error)
            self._hand_over(ended)

        threading.Thread(target=work, name="synthesis", daemon=True).start()

    def close(self) -> None:
        """Let whatever is asked from now on, or waited for, raise `Stopped` in the thread."""
        with self._lock:
            self._closed = True
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_exception(Stopped())

    def measure(self, cliques: Sequence[Clique], *, rho: float, groups: Groups | None = None) -> list[Measurement]:
        """Return all marginals with joint noise, in order: one vector release that costs at most `rho`."""
        if not cliques:
            raise DomainMismatch("measure at least one clique")
        merged = check_groups(groups, self.domain)
        question = Measure(cliques=_plain(cliques), rho=float(rho), groups=_plain_groups(merged))
        opened: list[Measurement] = self._ask(encode_question(question))
        cells = sum(part.values.size for part in opened)
        self.events.append(event_of(self._terms.count_noise(float(rho), n_marginals=len(opened), dimension=cells)))
        return opened

    def select(
        self,
        candidates: Sequence[Clique],
        estimates: Sequence[npt.NDArray[np.float64]],
        *,
        epsilon: float,
        weights: Sequence[int] | None = None,
        penalties: Sequence[float] | None = None,
        groups: Groups | None = None,
    ) -> int:
        """Return the index of a candidate whose marginal lies far, in L1, from its public estimate.

        Scores are those of `MarginalOracle.select`, with estimates and penalties rounded to sixteenths of a row. All of
        them are computed: which could be left out is private. A distance to the same estimate is computed once.
        """
        if not candidates or len(candidates) != len(estimates):
            raise DomainMismatch("select needs at least one candidate, and one estimate for each")
        merged = check_groups(groups, self.domain)
        factors = () if weights is None else tuple(checked_weights(weights, len(candidates)))
        offsets = () if penalties is None else rounded_penalties(penalties, len(candidates))
        coarse = coarse_domain(self.domain, merged)
        known, fresh, keys = [], [], []
        for i, clique in enumerate(candidates):
            estimate = rounded_estimate(estimates[i], coarse.sizes(clique))
            marks = tuple(merged[name].tobytes() if name in merged else b"" for name in clique)
            key = (tuple(clique), marks, hashlib.sha256(estimate.tobytes()).digest())
            known.append(self._distances.get(key, -1))
            if known[-1] < 0:
                keys.append(key)
                fresh.append(estimate.ravel())
        question = Select(
            candidates=_plain(candidates),
            known=tuple(known),
            epsilon=float(epsilon),
            weights=factors,
            penalties=offsets,
            groups=_plain_groups(merged),
        )
        estimated = np.concatenate(fresh) if fresh else np.zeros(0, dtype=np.int64)
        index = int(self._ask(encode_question(question, estimated)))
        for key in keys:
            self._distances[key] = self._n_distances
            self._n_distances += 1
        choice = self._terms.choice(
            float(epsilon), largest_weight=max(factors, default=1), n_candidates=len(candidates)
        )
        self.events.append(choice.event)
        return index

    def _ask(self, message: bytes) -> Any:
        asked = Asked(message, Future())
        with self._lock:
            if self._closed:
                raise Stopped
            self._waiting = asked.reply
        self._hand_over(asked)
        return asked.reply.result()

    def _hand_over(self, item: Asked | Ended) -> None:
        try:
            self._send(item)
        except RuntimeError:  # the event loop is closed
            raise Stopped from None


def rounded(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return numbers of rows in units of 2^-4 rows. Raises DomainMismatch unless they are far below 2^40."""
    scaled = np.rint(np.asarray(values, dtype=np.float64) * (1 << SCORE_BITS))
    if not np.isfinite(scaled).all() or np.abs(scaled).max(initial=0.0) > LARGEST_NUMBER:
        raise DomainMismatch("estimates and penalties must be finite numbers of rows, at most 2^40")
    integers: npt.NDArray[np.int64] = scaled.astype(np.int64)
    return integers


def rounded_estimate(estimate: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Return the estimate of a marginal of this shape, in units of 2^-4 rows. Raises DomainMismatch if it is none."""
    array = np.asarray(estimate)
    if array.shape != shape:
        raise DomainMismatch("an estimate must have the shape of its candidate's marginal")
    return rounded(array)


def rounded_penalties(penalties: Sequence[float], count: int) -> tuple[int, ...]:
    """Return so many penalties, in units of 2^-4 rows. Raises DomainMismatch if there are more or fewer."""
    if len(penalties) != count:
        raise DomainMismatch("penalties must be numbers of rows, one for each candidate")
    return tuple(rounded(np.asarray(penalties)).tolist())


def _plain(cliques: Sequence[Clique]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(clique) for clique in cliques)


def _plain_groups(groups: Groups) -> dict[str, tuple[int, ...]]:
    return {name: tuple(group.tolist()) for name, group in groups.items()}
