"""Counts of all sites on shares, at one compute party: what can be opened of them, with noise, by all parties together.

w       this party's share of the pooled counts: the sum of its shares of every site's vector, in Z_2^64
measure   marginals are read from w (sums of shares are local), noise that no party knows is added, the sum is opened
select    distances to public estimates are computed on shares and kept; a candidate is drawn by them on shares, with
          odds that are exponential in its score, and only its index is opened

Nothing here is priced: the caller pays first. A distance is at most all rows and the estimate together, which is what
bounds the comparisons; it holds for counts of at most `most_rows` rows, which every site vouches for.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from generators.domain import Clique
from generators.grouping import Group, Groups, merge_codes
from smpc import RING64, ConfirmationMissing, Session, Shared, SharePackage, concatenate, joint_discrete_gaussian
from smpc.noise import joint_table_gaussian
from smpc.noise.exponential import opened_draw
from synthema.errors import StudyError
from synthema.joint_noise import SCORE_BITS, Choice, CountNoise, JointTerms, TableNoise
from synthema.marginal_layout import SynthesisLayout

Words = npt.NDArray[np.uint64]

_CONFIRMED = b"\x01"


class SharedMarginals:
    """One party's shares of every site's counts, added up.

    Parameters
    ----------
    session
        The run.
    packages
        What this party was sent, one package of each site.
    layout
        Where the marginals lie in the vectors.
    terms
        Parties, threshold and kind of noise.
    """

    def __init__(
        self, session: Session, packages: Sequence[SharePackage], layout: SynthesisLayout, terms: JointTerms
    ) -> None:
        self._session, self._layout, self._terms = session, layout, terms
        self._words = pooled_words(packages, layout.size)
        # Distances that were computed, in order, on shares, and the marginals that they are of.
        self._distances: Shared | None = None
        self._distance_of: list[tuple[Clique, tuple[bytes, ...]]] = []

    def marginal(self, clique: Clique, groups: Groups) -> Words:
        """Return this party's share of one marginal, codes merged."""
        return merge_codes(self._layout.read(self._words, clique), clique, groups)

    async def measure(
        self, cliques: Sequence[Clique], noise: CountNoise, *, groups: Groups, confirmation: bytes = _CONFIRMED
    ) -> npt.NDArray[np.int64]:
        """Return the noisy marginals, one after the other: opened. Rounds: confirmation, opening, those of the noise.

        Parameters
        ----------
        confirmation
            What every party says, all the same, after the noise was added and before anything is opened.
        """
        session = self._session
        words = np.concatenate([self.marginal(clique, groups).ravel() for clique in cliques])
        counts = session.shared(words).declare(self._terms.most_rows)
        if isinstance(noise, TableNoise):
            noisy, _ = await joint_table_gaussian(
                session, counts, noise.table, l2_sensitivity_squared=noise.l2_sensitivity_squared
            )
        else:
            noisy = await joint_discrete_gaussian(
                session,
                counts,
                noise.per_party_scale,
                collusion_threshold=self._terms.collusion_threshold,
                confirm=False,
            )
        await self._confirm(confirmation)
        opened: npt.NDArray[np.int64] = await session.open(noisy)
        return opened

    def is_distance(self, number: int, clique: Clique, groups: Groups) -> bool:
        """Return whether the distance of this number was computed, of this marginal merged in this way."""
        return number < len(self._distance_of) and self._distance_of[number] == (clique, _marks(clique, groups))

    async def select(
        self,
        candidates: Sequence[Clique],
        known: Sequence[int],
        estimates: npt.NDArray[np.int64],
        choice: Choice,
        *,
        weights: Sequence[int],
        penalties: Sequence[int],
        groups: Groups,
        confirmation: bytes = _CONFIRMED,
    ) -> int:
        """Return the index of a candidate, drawn by the scores: opened.

        All scores are computed and compared: which could be left out is private. Distances and the confirmation share
        their rounds.

        Parameters
        ----------
        known
            For each candidate the number of an earlier distance, or -1.
        estimates
            Of the others, one after the other, in units of 2^-4 rows.
        weights, penalties
            One for each candidate; penalties in the same units.
        """
        session = self._session
        new = [clique for clique, number in zip(candidates, known, strict=True) if number < 0]
        _, fresh = await session.together(self._confirm(confirmation), self._compare(new, estimates, groups))
        numbers = iter(range(len(self._distance_of), len(self._distance_of) + len(new)))
        parts = [part for part in (self._distances, *fresh) if part is not None]
        self._distances = concatenate(*parts)
        self._distance_of.extend((clique, _marks(clique, groups)) for clique in new)
        distances = self._distances[[next(numbers) if number < 0 else number for number in known]]
        # Products in Python's integers: what a word does not hold is refused, and does not wrap round.
        offsets = [weight * penalty for weight, penalty in zip(weights, penalties, strict=True)]
        scores = distances * np.array(weights, dtype=np.int64) - np.array(offsets, dtype=object)
        return await opened_draw(session, scores, choice.law)

    async def _compare(
        self, cliques: Sequence[Clique], estimates: npt.NDArray[np.int64], groups: Groups
    ) -> list[Shared]:
        """Return the L1 distance of each marginal to its estimate, in units of 2^-4 rows; three or four rounds."""
        if not cliques:
            return []
        session = self._session
        shares = [self.marginal(clique, groups).ravel() for clique in cliques]
        counts = session.shared(np.concatenate(shares)).declare(self._terms.most_rows)
        difference = counts * (1 << SCORE_BITS) - estimates
        if estimates.min(initial=0) >= 0:
            # Neither side is negative, so they lie no farther apart than the larger one may be.
            most = max(self._terms.most_rows << SCORE_BITS, int(estimates.max(initial=0)))
            difference = difference.declare(most)
        absolute = await session.abs(difference)
        starts = np.concatenate([[0], np.cumsum([len(share) for share in shares])])
        return [
            absolute[start:end]
            .sum()
            .reshape(1)
            .declare((self._terms.most_rows << SCORE_BITS) + int(np.abs(estimates[start:end]).sum()))
            for start, end in itertools.pairwise(starts)
        ]

    async def _confirm(self, confirmation: bytes) -> None:
        for party, answer in enumerate(await self._session.exchange(confirmation)):
            if answer != confirmation:
                raise ConfirmationMissing(party)


def pooled_words(packages: Sequence[SharePackage], size: int) -> Words:
    """Return a party's share of the sum of all sites' vectors.

    Raises
    ------
    StudyError
        If there is none, or one of them has another form than the study's.
    """
    if not packages:
        raise StudyError("no site contributed anything")
    total = np.zeros(size, dtype=np.uint64)
    for package in packages:
        if package.domain != RING64 or package.shape != (size,):
            raise StudyError("a site's contribution has another form than the study's marginals")
        # Shares wrap round as elements of Z_2^64.
        total += package.expand()
    return total


def groups_of(clique: Clique, groups: Groups) -> tuple[Group | None, ...]:
    """Return what a measurement says of merged codes: a group or None for each column, nothing if none is merged."""
    return tuple(groups.get(name) for name in clique) if any(name in groups for name in clique) else ()


def _marks(clique: Clique, groups: Groups) -> tuple[bytes, ...]:
    return tuple(groups[name].tobytes() if name in groups else b"" for name in clique)
