"""A mechanism over many sites: one coroutine, the same at every compute party; the lead party asks, all answer.

Sites share their counts once (`synthesis_vector`); that they can be counts of patients is checked on shares
(`validity`) where a mechanism chooses. Party 0, the lead, runs the mechanism in a thread of its own against
an oracle whose questions it sends to all parties. Every party, the lead included, reads each question from the same
bytes, checks that it is of the study's marginals, works out its noise and price by itself, and counts it down from what
the study was priced at; only then do they answer together (`shared_marginals`). What is opened, all of them see. At the
end the lead sends the answer, and every party checks what it says against what it saw.

What a lead that deviates can do: choose badly, stop, or send a table that is not the model's. What it cannot: have
anything opened that was not paid for, or misquote a measurement. Each question's confirmation is a hash of all
questions so far, so parties that were asked different things stop before anything is opened. (Shares are protected
against parties that follow the protocol; see `smpc`.)
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from generators import (
    Domain,
    GeneratorError,
    GraphicalModel,
    Measurement,
)
from generators.domain import Clique
from generators.grouping import Group, check_groups, coarse_domain
from generators.marginals import Codes, count_marginals
from privacy import Event
from privacy.ledger.answers import encode_answer
from privacy.samplers import LARGEST_SCALE
from smpc import Session, SharePackage
from synthema.asking_oracle import Asked, AskingOracle, Ended
from synthema.errors import QuestionRefused, StudyError, SynthesisFailed
from synthema.intake.data import SiteData
from synthema.joint_noise import Purse, event_of
from synthema.marginal_layout import synthesis_layout
from synthema.questions import (
    Failed,
    Finished,
    Measure,
    Select,
    Wait,
    decode_estimates,
    decode_question,
    encode_finished,
    encode_question,
)
from synthema.shared_marginals import SharedMarginals, groups_of
from synthema.steps import input_level, plan, terms_of
from synthema.study import Study
from synthema.study_mechanism import generate
from synthema.synthesis_answer import check_answer, make_answer, read_answer
from synthema.validity import check_contributions

LEAD = 0

# A quarter of the least time that a session waits for a silent party by default.
HEARTBEAT_SECONDS = 15.0


def synthesis_vector(study: Study, table: Codes | SiteData) -> npt.NDArray[np.int64]:
    """Return a site's counts for the study's synthesis: the marginals of its layout, one after the other.

    Parameters
    ----------
    table
        The site's data; or its rows as codes of the study's modelled columns (`generators.encode`).

    Raises
    ------
    StudyError
        If there are more rows than joint counts are declared for.
    """
    most = study.largest_cohort
    if len(table) > most if isinstance(table, np.ndarray) else table.n_rows_at_least(most + 1):
        raise StudyError(f"a site of this study may hold at most {most} rows")
    schema, cliques = study.data_schema.subset(study.synthesis_columns), synthesis_layout(study).cliques
    counts = (
        count_marginals(table, Domain.from_schema(schema), cliques)
        if isinstance(table, np.ndarray)
        else table.marginals(schema, cliques)
    )
    return np.concatenate([part.ravel() for part in counts])


async def conduct(session: Session, packages: Sequence[SharePackage], study: Study) -> dict[str, Any]:
    """Make the study's synthetic table with the other compute parties; the same coroutine at each of them.

    Parameters
    ----------
    session
        The run; its party 0 leads.
    packages
        What this party was sent, one package of each site, in the order of the study's sites.

    Returns
    -------
    The answer, as plain data: see `synthesis_answer`.

    Raises
    ------
    SiteInputInvalid
        If a site's counts cannot be those of a table of patients (`validity`); nothing was opened.
    QuestionRefused
        If the lead asks what the study does not cover, or answers what was not opened.
    SynthesisFailed
        If the mechanism fails.
    SmpcError
        If a party fails, or is asked something else than the others.
    """
    level = input_level(study)
    if level is not None:
        layout, cap = synthesis_layout(study), study.largest_cohort
        await check_contributions(session, layout, packages, sites=tuple(study.sites), cap=cap, level=level)
    clerk = Clerk(session, packages, study)
    if session.party != LEAD:
        while clerk.answer is None:
            await clerk.handle(await _announced(session, b""))
        return clerk.answer
    return await _lead(session, clerk, study)


class Clerk:
    """What every party does with each question: check, pay, answer, keep.

    measured   what was opened, in order
    spent      the events of everything that was opened
    answer     the run's answer, once it came
    """

    def __init__(self, session: Session, packages: Sequence[SharePackage], study: Study) -> None:
        self._session, self._study = session, study
        self._layout, self.terms = synthesis_layout(study), terms_of(study)
        self.domain = Domain.from_schema(study.data_schema.subset(study.synthesis_columns))
        self._shared = SharedMarginals(session, packages, self._layout, self.terms)
        [priced] = [step.event for step in plan(study) if step.name == "marginals"]
        self._purse = Purse(priced)
        self._asked = hashlib.sha256(session.session_id)
        self.measured: list[Measurement] = []
        self.n_choices = 0
        self.answer: dict[str, Any] | None = None

    @property
    def spent(self) -> tuple[Event, ...]:
        """The events of everything that was opened so far."""
        return tuple(self._purse.spent)

    async def handle(self, message: bytes) -> Any:
        """Answer one message of the lead: measurements, the index that was chosen, or nothing.

        Raises
        ------
        QuestionRefused, SynthesisFailed
            If it may not be answered, or says that there is nothing to come.
        """
        self._asked.update(len(message).to_bytes(8, "little") + message)
        question, rest = decode_question(message)
        match question:
            case Wait():
                return None
            case Failed(error=error):
                raise SynthesisFailed(error)
            case Measure():
                return await self._measure(question)
            case Select():
                return await self._select(question, decode_estimates(rest))
            case Finished():
                answer = read_answer(rest)
                check_answer(answer, self._study, self.measured, n_choices=self.n_choices, spent=self.spent)
                # Nobody returns an answer that another party refuses, or got another form of.
                await self._confirm()
                self.answer = answer
                return None

    async def _measure(self, question: Measure) -> list[Measurement]:
        groups = self._groups(question.groups)
        self._check_cliques(question.cliques)
        coarse = coarse_domain(self.domain, groups)
        shapes = [coarse.sizes(clique) for clique in question.cliques]
        sizes = [int(np.prod(shape)) for shape in shapes]
        try:
            noise = self.terms.count_noise(question.rho, n_marginals=len(sizes), dimension=sum(sizes))
        except (StudyError, ValueError, OverflowError):
            raise QuestionRefused("a question asks for more noise than there is") from None
        if self.terms.noise_std(noise) > float(LARGEST_SCALE):
            raise QuestionRefused("a question asks for more noise than there is")
        self._pay(event_of(noise))
        vector = await self._shared.measure(question.cliques, noise, groups=groups, confirmation=self._asked.digest())
        parts = np.split(vector, np.cumsum(sizes)[:-1])
        std = self.terms.noise_std(noise)
        opened = [
            Measurement(clique, part.reshape(shape), std, groups_of(clique, groups))
            for clique, part, shape in zip(question.cliques, parts, shapes, strict=True)
        ]
        self.measured += opened
        return opened

    async def _select(self, question: Select, estimates: npt.NDArray[np.int64]) -> int:
        groups = self._groups(question.groups)
        candidates = question.candidates
        self._check_cliques(candidates)
        n = len(candidates)
        weights, penalties = question.weights or (1,) * n, question.penalties or (0,) * n
        if not len(question.known) == len(weights) == len(penalties) == n:
            raise QuestionRefused("a choice has weights, penalties or distances of another number of candidates")
        for clique, number in zip(candidates, question.known, strict=True):
            if number >= 0 and not self._shared.is_distance(number, clique, groups):
                raise QuestionRefused("a choice names a distance that is not its candidate's")
        new = [clique for clique, number in zip(candidates, question.known, strict=True) if number < 0]
        coarse = coarse_domain(self.domain, groups)
        if sum(coarse.cells(clique) for clique in new) != len(estimates):
            raise QuestionRefused("the estimates of a choice have another form than its candidates")
        try:
            choice = self.terms.choice(question.epsilon, largest_weight=max(weights), n_candidates=n)
        except (ValueError, OverflowError):
            raise QuestionRefused("a choice asks for a smaller epsilon than can be drawn on shares") from None
        self._pay(choice.event)
        self.n_choices += 1
        return await self._shared.select(
            candidates,
            question.known,
            estimates,
            choice,
            weights=weights,
            penalties=penalties,
            groups=groups,
            confirmation=self._asked.digest(),
        )

    def _groups(self, given: Mapping[str, Any]) -> dict[str, Group]:
        try:
            return check_groups(given, self.domain)
        except (GeneratorError, ValueError, OverflowError):
            raise QuestionRefused("the groups of a question are not of the study's codes") from None

    def _check_cliques(self, cliques: Sequence[Clique]) -> None:
        for clique in cliques:
            if not self._layout.holds(clique):
                raise QuestionRefused("a question is of columns that the sites did not share together")

    def _pay(self, event: Event) -> None:
        if not self._purse.takes(event):
            raise QuestionRefused("a question costs more than is left of what the study was priced at")

    async def _confirm(self) -> None:
        mine = self._asked.digest()
        for party, theirs in enumerate(await self._session.exchange(mine)):
            if theirs != mine:
                raise QuestionRefused(f"party {party} was told another answer")


async def _announced(session: Session, message: bytes) -> bytes:
    """Return what the lead sends to all; the others send nothing. One round."""
    received = await session.exchange(message)
    if any(received[party] for party in range(session.n_parties) if party != LEAD):
        raise QuestionRefused("a party that does not lead asked a question")
    return received[LEAD]


async def _lead(session: Session, clerk: Clerk, study: Study) -> dict[str, Any]:
    """Run the mechanism in a thread, pass its questions on, and end with its answer."""
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue[Asked | Ended] = asyncio.Queue()

    def send(item: Asked | Ended) -> None:
        loop.call_soon_threadsafe(inbox.put_nowait, item)

    oracle = AskingOracle(clerk.domain, clerk.terms, send=send)
    oracle.start(lambda: generate(study, oracle))
    try:
        while clerk.answer is None:
            item = await _next(inbox)
            match item:
                case None:
                    message = encode_question(Wait())
                case Asked(message=message):
                    pass
                case Ended(error=error, result=result):
                    message = _last_message(study, clerk, result, error)
            await _announced(session, message)
            try:
                reply = await clerk.handle(message)
            except SynthesisFailed as failed:
                raise failed from (item.error if isinstance(item, Ended) else None)
            if isinstance(item, Asked):
                item.reply.set_result(reply)
    finally:
        oracle.close()
    return clerk.answer


async def _next(inbox: asyncio.Queue[Asked | Ended]) -> Asked | Ended | None:
    """Return what the mechanism's thread says next, or None if it says nothing for a while."""
    getter = asyncio.ensure_future(inbox.get())
    try:
        done, _ = await asyncio.wait({getter}, timeout=HEARTBEAT_SECONDS)
        return getter.result() if done else None
    finally:
        getter.cancel()


def _last_message(
    study: Study, clerk: Clerk, result: tuple[GraphicalModel, pd.DataFrame], error: Exception | None
) -> bytes:
    if error is not None:
        return encode_question(Failed(error=type(error).__name__))
    model, table = result
    answer = make_answer(
        study,
        clerk.measured,
        edges=model.edges,
        cliques=model.marginals.tree.cliques,
        table=table,
        n_choices=clerk.n_choices,
        spent=clerk.spent,
    )
    return encode_finished(encode_answer(answer))
