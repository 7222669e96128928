"""A site's side of a sum: five steps, each taken once, in order, from bytes to bytes.

What protects the site's vector is here: it never sends it unmasked, reveals for each site only one of its two secrets,
and only when enough of the holders of its own secrets have confirmed that they were told of the same survivors.

Source: Bonawitz et al. 2017, figure 4, with the consistency check of the active variant; Bell et al. 2020 for peers
that are not everybody.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from privacy.randomness import Rng, SecureRng
from smpc.errors import FrameRejected, ProtocolAbort, RangeExceeded, SessionReused, StepRefused, TooFewContributors
from smpc.prg import SEED_BYTES
from smpc.secure_sum import masks, messages, shamir
from smpc.secure_sum.messages import Kind, Opened, Secret, Step
from smpc.secure_sum.plan import SumPlan

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class SecureSumClient:
    """A site with its long-term key, for any number of sums, each under an id of its own.

    The ids are remembered as long as this object lives. All other keys are drawn anew for each sum, so that an id used
    again after a restart has nothing old to be combined with.

    Parameters
    ----------
    signing_key
        The Ed25519 key whose public half is on the rosters.
    rng
        Source of keys, seeds and polynomials; the operating system's by default. Anything else protects nobody.

    Examples
    --------
    See `secure_sum_local` for a whole run.

    >>> from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    >>> from smpc import plan_sum
    >>> keys = [Ed25519PrivateKey.generate() for _ in range(3)]
    >>> sites = [SecureSumClient(key) for key in keys]
    >>> plan = plan_sum([site.public_key for site in sites], 4, max_abs=100)
    >>> run = sites[0].start(plan)
    >>> len(run.advertise())  # to be sent to the server; its answer goes into run.share
    202
    """

    def __init__(self, signing_key: Ed25519PrivateKey, *, rng: Rng | None = None) -> None:
        self._signing_key = signing_key
        self.public_key = signing_key.public_key().public_bytes_raw()
        self._rng = SecureRng() if rng is None else rng
        self._used: set[bytes] = set()

    def __repr__(self) -> str:
        return f"SecureSumClient(public_key={self.public_key.hex()})"

    def start(self, plan: SumPlan) -> ClientRun:
        """Return this site's side of one sum.

        Raises
        ------
        SessionReused
            If this object has taken part in a session of this id.
        ValueError
            If this site is not on the roster.
        """
        if self.public_key not in plan.roster:
            raise ValueError("the plan's roster must name this site's public key")
        if plan.session_id in self._used:
            raise SessionReused
        self._used.add(plan.session_id)
        return ClientRun(plan, plan.roster.index(self.public_key), self._signing_key, rng=self._rng)


class ClientRun:
    """One site's side of one sum. Made by `SecureSumClient.start`.

    Any error in a step ends the run at this site: its secrets are forgotten, and to the others it has dropped out.
    A step out of order changes nothing.
    """

    def __init__(self, plan: SumPlan, site: int, signing_key: Ed25519PrivateKey, *, rng: Rng) -> None:
        self.plan = plan
        self.site = site
        self._signing_key = signing_key
        self._rng = rng
        self._due = Step.ADVERTISE
        self._mask_key: masks.KeyPair | None = masks.KeyPair(rng.bytes(messages.KEY_BYTES))
        self._seal_key: masks.KeyPair | None = masks.KeyPair(rng.bytes(messages.KEY_BYTES))
        self._self_seed = rng.bytes(SEED_BYTES)
        self._peer_mask_keys: dict[int, bytes] = {}
        # What this site and each peer know by their sealing keys; never revealed.
        self._pair: dict[int, bytes] = {}
        # Shares of each site's two secrets that this site holds.
        self._held: dict[int, dict[Secret, bytes]] = {}
        self._survivors: frozenset[int] = frozenset()

    def __repr__(self) -> str:
        return f"ClientRun(site={self.site}, next={str(self._due)!r})"

    def advertise(self) -> bytes:
        """Return this site's signed keys for this run."""
        with self._step(Step.ADVERTISE):
            mask_key, seal_key = self._keys()
            commitment = masks.commitment(self._self_seed, self.plan.tag, self.site)
            return self._message(Kind.ADVERTISEMENT, mask_key.public_bytes + seal_key.public_bytes + commitment)

    def share(self, message: bytes) -> bytes:
        """Take the peers' keys, return shares of this site's two secrets, sealed for each peer.

        Raises
        ------
        FrameRejected
            If a key is not signed by the peer for this run.
        TooFewContributors
            If fewer than the threshold could hold shares.
        """
        with self._step(Step.SHARE):
            plan, me = self.plan, self.site
            peers = plan.peers[me]
            most = len(peers) * messages.SIGNED_ADVERTISEMENT_BYTES
            body = messages.body_from_server(plan, Kind.PEERS, me, message, most_bytes=most)
            signed = messages.split_advertisements(body, peers)
            self._check_enough(Step.ADVERTISE, 1 + len(signed))
            mask_key, seal_key = self._keys()
            for peer, advertisement in signed.items():
                keys = messages.read_advertisement(plan, peer, advertisement)
                self._peer_mask_keys[peer] = keys.mask_key
                self._pair[peer] = seal_key.agree(keys.seal_key, plan.tag, peer=peer)
            holders = [me, *signed]
            places = [holder + 1 for holder in holders]
            of_seed = shamir.split(self._self_seed, places, plan.threshold, rng=self._rng)
            of_key = shamir.split(mask_key.private_bytes, places, plan.threshold, rng=self._rng)
            pairs = dict(zip(holders, zip(of_seed, of_key, strict=True), strict=True))
            self._hold(me, b"".join(pairs.pop(me)))
            return self._message(
                Kind.SHARES,
                messages.encode_sealed(
                    {
                        peer: masks.seal(self._pair[peer], plan.tag, me, peer, b"".join(pair))
                        for peer, pair in pairs.items()
                    }
                ),
            )

    def mask(self, message: bytes, values: npt.ArrayLike) -> bytes:
        """Take the peers' sealed shares, return this site's vector under its masks.

        Parameters
        ----------
        values
            Integers, shape (n_counters,), each at most max_abs in absolute value.

        Raises
        ------
        RangeExceeded, ValueError
            If the vector does not fit the plan. The step is not taken then.
        FrameRejected
            If a sealed pair of shares was tampered with, or was meant for somebody else.
        TooFewContributors
            If fewer than the threshold hold shares of this site's secrets.
        """
        vector = self._checked(values)
        with self._step(Step.MASK):
            plan, me = self.plan, self.site
            asked = sorted(self._pair)
            most = messages.sealed_bytes(len(asked))
            body = messages.body_from_server(plan, Kind.DELIVERY, me, message, most_bytes=most)
            sealed = messages.decode_sealed(body, asked, line=None)
            self._check_enough(Step.SHARE, 1 + len(sealed))
            mask_key, _ = self._keys()
            streams = [(masks.self_stream(self._self_seed), 1)]
            for peer, text in sealed.items():
                self._hold(peer, masks.unseal(self._pair[peer], plan.tag, peer, me, text))
                secret = mask_key.agree(self._peer_mask_keys[peer], plan.tag, peer=peer)
                streams.append((masks.pair_stream(secret, me, peer), masks.pair_sign(me, peer)))
            masks.add_streams(vector, streams)
            # From here on, this site could not take its vector's masks off itself.
            self._forget_keys()
            # Whose masks are in it: if an answer was cut on the way, they would not cancel.
            added = messages.encode_sites(plan, sealed)
            return self._message(Kind.MASKED, b"".join((added, vector.data.cast("B"))))

    def confirm(self, message: bytes) -> bytes:
        """Take the list of sites whose vectors arrived, return this site's signed confirmation of it for each peer.

        Raises
        ------
        ProtocolAbort
            If the list lacks this site, or names a peer that never shared its secrets.
        TooFewContributors
            If the list is shorter than min_contributors.
        """
        with self._step(Step.CONFIRM):
            plan, me = self.plan, self.site
            most = messages.sites_bytes(plan)
            body = messages.body_from_server(plan, Kind.SURVIVORS, me, message, most_bytes=most)
            survivors = messages.decode_sites(plan, body)
            if me not in survivors:
                raise ProtocolAbort("this site sent its vector and the server does not count it")
            if not survivors.intersection(plan.peers[me]) <= self._held.keys():
                raise ProtocolAbort("the server counts a peer that never shared its secrets with this site")
            if len(survivors) < plan.min_contributors:
                raise TooFewContributors(step=Step.MASK, present=len(survivors), required=plan.min_contributors)
            self._survivors = survivors
            digest = messages.survivors_digest(plan, survivors)
            tags = {peer: masks.confirmation(self._pair[peer], me, peer, digest) for peer in self._surviving_peers()}
            return self._message(Kind.CONFIRMATION, digest + messages.encode_confirmations(tags))

    def unmask(self, message: bytes) -> bytes:
        """Take peers' confirmations, return one share of each peer: of its self-mask if it survived, else of its key.

        Raises
        ------
        ProtocolAbort
            If a peer does not confirm this list of survivors.
        TooFewContributors
            If fewer than the threshold, this site included, confirmed the list.
        """
        with self._step(Step.UNMASK):
            plan, me = self.plan, self.site
            peers = self._surviving_peers()
            most = messages.confirmations_bytes(len(peers))
            body = messages.body_from_server(plan, Kind.CONFIRMATIONS, me, message, most_bytes=most)
            tags = messages.decode_confirmations(body, peers, line=None)
            self._check_enough(Step.CONFIRM, 1 + len(tags))
            digest = messages.survivors_digest(plan, self._survivors)
            for peer, tag in tags.items():
                if not hmac.compare_digest(tag, masks.confirmation(self._pair[peer], peer, me, digest)):
                    raise ProtocolAbort(f"site {peer} does not confirm the survivors that this site was told of")
            opened = []
            for subject, pair in self._held.items():
                # The one place where shares leave this site. The survivors were fixed in the step before, and this step
                # is taken once: nobody gets both secrets of one site from here.
                secret = Secret.SELF_MASK if subject in self._survivors else Secret.MASK_KEY
                opened.append(Opened(subject, secret, pair[secret]))
            self._forget_shares()
            return self._message(Kind.UNMASKING, messages.encode_opened(opened))

    @contextmanager
    def _step(self, step: Step) -> Iterator[None]:
        if self._due is not step:
            raise StepRefused(step, expected=self._due)
        self._due = Step.FAILED
        try:
            yield
        except BaseException:
            self._forget_keys()
            self._forget_shares()
            raise
        self._due = step.following

    def _message(self, kind: Kind, body: bytes) -> bytes:
        return messages.from_site(self.plan, kind, self.site, body, self._signing_key)

    def _keys(self) -> tuple[masks.KeyPair, masks.KeyPair]:
        if self._mask_key is None or self._seal_key is None:
            raise ProtocolAbort("the keys of this run are forgotten")
        return self._mask_key, self._seal_key

    def _forget_keys(self) -> None:
        self._mask_key = self._seal_key = None
        self._self_seed = b""

    def _forget_shares(self) -> None:
        self._held.clear()
        self._pair.clear()

    def _surviving_peers(self) -> list[int]:
        return sorted(self._survivors.intersection(self.plan.peers[self.site]))

    def _hold(self, subject: int, pair: bytes) -> None:
        shares = {Secret.SELF_MASK: pair[: shamir.SHARE_BYTES], Secret.MASK_KEY: pair[shamir.SHARE_BYTES :]}
        if not all(map(shamir.is_share, shares.values())):
            raise FrameRejected("it sealed shares that are no field elements", sender=subject)
        self._held[subject] = shares

    def _check_enough(self, step: Step, present: int) -> None:
        if present < self.plan.threshold:
            raise TooFewContributors(step=step, present=present, required=self.plan.threshold)

    def _checked(self, values: npt.ArrayLike) -> masks.RingArray:
        """Return a fresh copy of the vector, as elements of the ring."""
        array = np.asarray(values)
        if array.shape != (self.plan.n_counters,):
            raise ValueError(f"values must have shape ({self.plan.n_counters},), got {array.shape}")
        if array.dtype.kind not in "iub":
            raise ValueError(f"values must be integers, got dtype {array.dtype}; encode real numbers by FixedPoint")
        # Unsigned numbers are compared as they are; -2^63 has no absolute value in int64.
        if int(array.max()) > self.plan.max_abs or int(array.min()) < -self.plan.max_abs:
            raise RangeExceeded(
                rule=f"a counter is larger than max_abs={self.plan.max_abs}, which the plan declares",
                way_out="clip the vector, or agree on a plan with a larger max_abs",
            )
        return array.astype(np.int64).astype(self.plan.word)
