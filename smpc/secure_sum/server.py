"""The server's side of a sum: it passes on what it cannot read, adds masked vectors and removes what is left of masks.

It holds no key. In the semi-honest model it runs this code; what a server that does not could learn, the sites limit
(`smpc.secure_sum.client`).
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smpc.errors import FrameRejected, RecoveryFailed, StepRefused, TooFewContributors
from smpc.secure_sum import masks, messages, shamir
from smpc.secure_sum.messages import Advertisement, Kind, Secret, Step
from smpc.secure_sum.plan import SumPlan


@dataclass(frozen=True, slots=True, eq=False)
class SumResult:
    """The sum, int64, shape (n_counters,), and the sites whose vectors are in it, ascending."""

    total: npt.NDArray[np.int64]
    contributors: tuple[int, ...]


class SecureSumServer:
    """The server's side of one sum.

    `receive` takes one site's message of the step that is due; a message that is refused changes nothing. `close` ends
    the step, whoever is missing, and returns the answers to be sent to those who are there.

    Examples
    --------
    See `secure_sum_local` for a whole run.
    """

    def __init__(self, plan: SumPlan) -> None:
        self.plan = plan
        self._due = Step.ADVERTISE
        # Sites that took part in the last closed step.
        self._present: Sequence[int] = range(plan.n_sites)
        self._received: dict[int, bytes] = {}
        self._keys: dict[int, Advertisement] = {}
        self._sharing: frozenset[int] = frozenset()
        self._sealed: dict[int, dict[int, bytes]] = {}
        self._total: masks.RingArray = np.zeros(plan.n_counters, dtype=plan.word)
        self._survivors: frozenset[int] = frozenset()
        self._confirmations: dict[int, dict[int, bytes]] = {}
        self._opened: dict[tuple[int, Secret], dict[int, bytes]] = {}
        self._result: SumResult | None = None

    def __repr__(self) -> str:
        return f"SecureSumServer(n_sites={self.plan.n_sites}, next={str(self._due)!r})"

    @property
    def due(self) -> Step:
        """The step for which messages are taken."""
        return self._due

    @property
    def waiting_for(self) -> tuple[int, ...]:
        """Sites that may still send a message of this step."""
        return tuple(site for site in self._present if site not in self._received)

    def receive(self, site: int, message: bytes) -> None:
        """Take the message that came on the line of one site.

        Raises
        ------
        FrameRejected
            With the site and the rule, if it is malformed, not signed by the site, of another step or run, or its
            second one.
        StepRefused
            If the run has ended.
        """
        if self._due in (Step.DONE, Step.FAILED):
            raise StepRefused("receive", expected=self._due)
        if site not in self._present:
            raise FrameRejected("the site has no part in this step: it dropped out before", sender=site)
        if site in self._received:
            raise FrameRejected("the site has already sent its message of this step", sender=site)
        match self._due:
            case Step.ADVERTISE:
                self._keys[site] = messages.read_advertisement(self.plan, site, message)
                self._received[site] = message
            case Step.SHARE:
                peers = self._peers(site, self._keys)
                body = self._body(Kind.SHARES, site, message, messages.sealed_bytes(len(peers)))
                self._sealed[site] = messages.decode_sealed(body, peers, line=site)
                self._received[site] = b""
            case Step.MASK:
                n_bits = messages.sites_bytes(self.plan)
                n_bytes = n_bits + self.plan.word.itemsize * self.plan.n_counters
                body = self._body(Kind.MASKED, site, message, n_bytes)
                if body[:n_bits] != messages.encode_sites(self.plan, self._peers(site, self._sharing)):
                    raise FrameRejected("it is not masked with the peers that the server named", sender=site)
                self._total += np.frombuffer(body[n_bits:], dtype=self.plan.word)
                self._received[site] = b""
            case Step.CONFIRM:
                peers = self._peers(site, self._survivors)
                n_bytes = messages.DIGEST_BYTES + messages.confirmations_bytes(len(peers))
                body = self._body(Kind.CONFIRMATION, site, message, n_bytes)
                if body[: messages.DIGEST_BYTES] != messages.survivors_digest(self.plan, self._survivors):
                    raise FrameRejected("it confirms other survivors than the server named", sender=site)
                tags = messages.decode_confirmations(body[messages.DIGEST_BYTES :], peers, line=site)
                self._confirmations[site] = tags
                self._received[site] = b""
            case _:
                expected = [(subject, self._secret(subject)) for subject in self._subjects(site)]
                body = self._body(Kind.UNMASKING, site, message, messages.opened_bytes(len(expected)))
                for subject, secret, share in messages.decode_opened(body, expected, line=site):
                    self._opened.setdefault((subject, secret), {})[site + 1] = share
                self._received[site] = b""

    def close(self) -> dict[int, bytes]:
        """End the step, and return the answer for each site that is still there; none after the last step.

        Raises
        ------
        TooFewContributors
            If too few sites are left. Nothing was opened, and the run has ended.
        RecoveryFailed
            In the last step, if the mask of a site cannot be removed. The run has ended.
        """
        step = self._due
        if step in (Step.DONE, Step.FAILED):
            raise StepRefused("close", expected=step)
        self._due = Step.FAILED
        present = tuple(sorted(self._received))
        # Once the vectors are in, it is the number of shares that counts.
        contributing = step in (Step.ADVERTISE, Step.SHARE, Step.MASK)
        required = self.plan.min_contributors if contributing else self.plan.threshold
        if len(present) < required:
            raise TooFewContributors(step=step, present=len(present), required=required)
        answers = self._answers(step, present)
        self._present = present
        self._received = {}
        self._due = step.following
        return answers

    def result(self) -> SumResult:
        """Return the sum, after the last step was closed."""
        if self._result is None:
            raise StepRefused("result", expected=self._due)
        return self._result

    def _answers(self, step: Step, present: Sequence[int]) -> dict[int, bytes]:
        plan = self.plan
        answers: dict[int, bytes] = {}
        match step:
            case Step.ADVERTISE:
                for site in present:
                    passed_on = b"".join(self._received[peer] for peer in self._peers(site, self._keys))
                    answers[site] = messages.from_server(plan, Kind.PEERS, site, passed_on)
            case Step.SHARE:
                self._sharing = frozenset(present)
                for site in present:
                    sealed = {peer: self._sealed[peer][site] for peer in self._peers(site, self._sharing)}
                    body = messages.encode_sealed(sealed)
                    answers[site] = messages.from_server(plan, Kind.DELIVERY, site, body)
                self._sealed = {}
            case Step.MASK:
                self._survivors = frozenset(present)
                body = messages.encode_sites(plan, present)
                answers = {site: messages.from_server(plan, Kind.SURVIVORS, site, body) for site in present}
            case Step.CONFIRM:
                for site in present:
                    tags = {peer: self._confirmations[peer][site] for peer in self._peers(site, self._confirmations)}
                    body = messages.encode_confirmations(tags)
                    answers[site] = messages.from_server(plan, Kind.CONFIRMATIONS, site, body)
            case _:
                self._remove_masks()
                signed = self._total.view(f"<i{self._total.itemsize}").astype(np.int64)
                self._result = SumResult(signed, tuple(sorted(self._survivors)))
        return answers

    def _remove_masks(self) -> None:
        """Subtract the survivors' own masks, and what survivors added for peers that dropped out after sharing."""
        streams = []
        for site in sorted(self._sharing):
            if site in self._survivors:
                streams.append((masks.self_stream(self._recover(site)), -1))
                continue
            remaining = self._peers(site, self._survivors)
            if not remaining:
                continue
            key = masks.KeyPair(self._recover(site))
            for peer in remaining:
                pair = key.agree(self._keys[peer].mask_key, self.plan.tag, peer=peer)
                streams.append((masks.pair_stream(pair, site, peer), -masks.pair_sign(peer, site)))
        masks.add_streams(self._total, streams)

    def _recover(self, site: int) -> bytes:
        """Return a survivor's self-mask seed or a dropped site's private mask key, checked against what it signed."""
        secret = self._secret(site)
        shares = self._opened.get((site, secret), {})
        if len(shares) < self.plan.threshold:
            raise RecoveryFailed(site, rule=f"{len(shares)} shares of it arrived, {self.plan.threshold} are required")
        found = shamir.combine({place: shares[place] for place in sorted(shares)[: self.plan.threshold]})
        if found is None or not self._fits(site, secret, found):
            raise RecoveryFailed(site, rule="the shares of it do not give what it advertised")
        return found

    def _fits(self, site: int, secret: Secret, found: bytes) -> bool:
        keys = self._keys[site]
        if secret is Secret.SELF_MASK:
            return masks.commitment(found, self.plan.tag, site) == keys.commitment
        return masks.KeyPair(found).public_bytes == keys.mask_key

    def _body(self, kind: Kind, site: int, message: bytes, n_bytes: int) -> memoryview:
        return messages.body_from_site(self.plan, kind, site, message, n_bytes=n_bytes)

    def _peers(self, site: int, among: Container[int]) -> list[int]:
        return [peer for peer in self.plan.peers[site] if peer in among]

    def _subjects(self, site: int) -> list[int]:
        """Sites of whose secrets this site holds shares."""
        return [holder for holder in self.plan.holders(site) if holder in self._sharing]

    def _secret(self, site: int) -> Secret:
        return Secret.SELF_MASK if site in self._survivors else Secret.MASK_KEY
