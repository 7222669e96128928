"""What can go wrong in `smpc`: one root, attributes first, the sentence derived from them.

A message says which party, which step and which rule. It never holds a share, a seed, an input or an opened value: a
peer that can provoke an error must not learn a secret from its text.
"""

from __future__ import annotations

from collections.abc import Sequence


class SmpcError(Exception):
    """Root of every error that this package raises on purpose (bad arguments are ValueError)."""


class RangeExceeded(SmpcError):
    """Numbers do not fit the domain they are to be shared in. Raised before anything is shared."""

    def __init__(self, *, rule: str, way_out: str) -> None:
        self.rule = rule
        self.way_out = way_out
        super().__init__(f"{rule}; {way_out}")


class DomainMismatch(SmpcError):
    """Shares in Z_2^64 and shares in F_p were combined; they hold different numbers."""

    def __init__(self, left: str, right: str) -> None:
        self.left = left
        self.right = right
        super().__init__(f"shares in {left} and shares in {right} cannot be combined: share both in one domain")


class SessionMismatch(SmpcError):
    """Shares of two sessions were combined."""

    def __init__(self) -> None:
        super().__init__("these shares belong to different sessions (or parties) and do not add up to anything")


class UnsupportedSecurity(SmpcError):
    """A level of security was asked for that these protocols do not reach."""

    def __init__(self, requested: object, *, available: Sequence[str]) -> None:
        self.requested = requested
        self.available = tuple(available)
        super().__init__(
            f"security={requested!r} is not available; there is {', '.join(map(repr, self.available))}: parties that "
            "follow the protocol learn nothing more, parties that deviate may falsify results without being noticed"
        )


class TripleReused(SmpcError):
    """A Beaver triple was asked for a second time. A reused mask opens the difference of two secrets."""

    def __init__(self, index: int) -> None:
        self.index = index
        super().__init__(f"triple {index} was already handed out and never will be again: start a new session")


class TripleOutOfOrder(SmpcError):
    """A party asked for a triple further on than the next one."""

    def __init__(self, index: int, *, expected: int) -> None:
        self.index = index
        self.expected = expected
        super().__init__(f"triple {index} was asked for, the next one is {expected}: all parties run one protocol")


class MaterialMissing(SmpcError):
    """A protocol needs correlated randomness, and this party has none."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(
            f"the protocol needs correlated randomness ({kind}), and this run has none: sums and openings do without"
        )


class PartyFailed(SmpcError):
    """A party raised an error, closed its connection or kept silent. `__cause__` holds its own error, if known."""

    def __init__(self, party: int, *, reason: str) -> None:
        self.party = party
        self.reason = reason
        super().__init__(f"party {party} failed: {reason}")


class PeerUnavailable(PartyFailed):
    """A party closed its connection, cannot be reached, or sent nothing in time."""


class RelayUnavailable(PeerUnavailable):
    """The relay ended the line or cannot be reached, so no party is heard. `party`: one of those who are not."""


class ProtocolAbort(SmpcError):
    """The run ended because a check failed. Nothing that depends on what was checked was opened.

    `party`: who deviated, where it is known.
    """

    def __init__(self, rule: str, *, party: int | None = None) -> None:
        self.rule = rule
        self.party = party
        super().__init__(f"the run was ended: {rule}; start a new session")


class MacCheckFailed(ProtocolAbort):
    """An opened value does not carry the authentication of what was shared. Somebody deviated; who is not known."""

    def __init__(self) -> None:
        super().__init__("an opened value failed its authentication")


class FrameRejected(SmpcError):
    """A message is malformed, or is not the one that this step of the protocol expects."""

    def __init__(self, rule: str, *, sender: int | None = None) -> None:
        self.rule = rule
        self.sender = sender
        origin = "a message" if sender is None else f"a message on the line from party {sender}"
        super().__init__(f"{origin} was rejected: {rule}")


class ConfirmationMissing(SmpcError):
    """A party did not confirm its noise, so nothing that depends on it may be opened."""

    def __init__(self, party: int) -> None:
        self.party = party
        super().__init__(f"party {party} did not confirm that it added its noise: nothing was opened")


class SessionBusy(SmpcError):
    """Two rounds of one session were started at the same time."""

    def __init__(self) -> None:
        super().__init__(
            "a session runs one round at a time, in the same order at every party: put independent products into "
            "mul_many and independent openings into one open"
        )


class TooFewContributors(SmpcError):
    """So many sites are missing that the sum is not made. Nothing was opened."""

    def __init__(self, *, step: str, present: int, required: int) -> None:
        self.step = str(step)
        self.present = present
        self.required = required
        super().__init__(
            f"after step {self.step!r} {present} sites are left and {required} are required: nothing was opened; start "
            "a new session with the sites that are there"
        )


class RecoveryFailed(SmpcError):
    """A site's mask cannot be removed: too few shares of its secret arrived, or they do not fit what it published."""

    def __init__(self, site: int, *, rule: str) -> None:
        self.site = site
        self.rule = rule
        super().__init__(f"the mask of site {site} cannot be removed: {rule}; nothing was opened, start a new session")


class SessionReused(SmpcError):
    """A session id was used before by this site. What was said under it could be combined with what is said now."""

    def __init__(self) -> None:
        super().__init__("this site has taken part in a session of this id: draw a fresh one, with plan_sum")


class StepRefused(SmpcError):
    """A step was asked for that is not the next one: each is taken once, in order."""

    def __init__(self, step: str, *, expected: str) -> None:
        self.step = str(step)
        self.expected = str(expected)
        super().__init__(
            f"{self.step!r} is refused, what is due is {self.expected!r}: each step is taken once, in order"
        )


class MaterialError(SmpcError):
    """Preprocessed material on disk cannot be used, or not any more. No item is handed out after it was raised."""


class MaterialDamaged(MaterialError):
    """A file of material, or the record of what was used of it, is not as it was written."""

    def __init__(self, file: str, *, rule: str) -> None:
        self.file = file
        self.rule = rule
        super().__init__(f"{file}: {rule}; discard this batch at all parties and have the dealer make a new one")


class MaterialUnavailable(MaterialError):
    """The disk did not do what it was asked. Whether the last range was marked is not known, so it counts as used."""

    def __init__(self, file: str, *, reason: str) -> None:
        self.file = file
        self.reason = reason
        super().__init__(f"{file}: {reason}; nothing more is taken from this store: mend the disk and open it again")


class DealerUnavailable(MaterialUnavailable):
    """A dealer that is asked while the run goes on does not answer any more, or refused. Nothing more is taken."""

    def __init__(self, *, reason: str) -> None:
        super().__init__("the dealer", reason=reason)
        self.args = (f"the dealer serves nothing more: {reason}; start a new run, with a new dealing",)


class DealerLimitReached(MaterialError):
    """A party asked an online dealer for more than the dealer gives away. It was cut off."""

    def __init__(self, party: int, *, limit: str, most: float) -> None:
        self.party = party
        self.limit = limit
        self.most = most
        super().__init__(f"party {party} reached the dealer's limit {limit} = {most:g}, and was cut off")


class MaterialBusy(MaterialError):
    """Another process, or another store of this one, holds the folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        super().__init__(f"{folder} is in use: one process at a time takes material from a store; wait until it ends")


class MaterialExhausted(MaterialError):
    """The dealer did not make as many items of a kind as are asked for. Nothing was taken."""

    def __init__(self, kind: str, *, wanted: int, left: int) -> None:
        self.kind = kind
        self.wanted = wanted
        self.left = left
        super().__init__(
            f"{wanted} items of {kind!r} are asked for and {left} are left: forecast the run and have the dealer make "
            "what it needs"
        )


class MaterialNotAgreed(MaterialError):
    """Material from disk was asked for before the parties agreed where it begins."""

    def __init__(self) -> None:
        super().__init__("the parties must agree first where their material begins: await session.agree_on_material()")


class MaterialMismatch(MaterialError):
    """The parties' stores do not belong together."""

    def __init__(self, party: int, *, rule: str) -> None:
        self.party = party
        self.rule = rule
        super().__init__(f"the store of party {party} does not fit: {rule}; all parties open stores of one batch")


class MaterialRolledBack(MaterialError):
    """A store does not know what it said in an earlier run: it is a restored or a second copy. It is discarded."""

    def __init__(self, party: int) -> None:
        self.party = party
        super().__init__(
            f"the store of party {party} is an older or a second copy: the others remember a statement that its record "
            "does not hold, so items may have been used that it counts as unused; discard this batch at all parties "
            "and have the dealer make a new one, and never restore or copy a store"
        )


class MaterialDiscarded(MaterialError):
    """The store was given up and serves nothing any more."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        super().__init__(f"{folder} was discarded: have the dealer make a new batch for all parties")


class PackageRefused(MaterialError):
    """A dealer's package, or a plan of what it is to make, is not well-formed, not ours, or not from that dealer."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        super().__init__(f"the package was refused: {rule}")


class DealerNotSeparate(MaterialError):
    """The dealer's operator also runs the relay or a compute party, and could then reconstruct what is computed on."""

    def __init__(self, operator: str, *, role: str) -> None:
        self.operator = operator
        self.role = role
        super().__init__(
            f"{operator!r} is to be the dealer and {role}: the dealer together with one party, or with whoever reads "
            "the parties' messages, can reconstruct the inputs; let another legal entity deal"
        )
