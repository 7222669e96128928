"""What can go wrong in `privacy`: one root, attributes first, the sentence derived from them.

No message holds a patient's value, an answer, a key or an exact private count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_DOWN, Context


class PrivacyError(Exception):
    """Root of every error that this package raises on purpose (bad arguments are ValueError)."""


@dataclass(frozen=True, slots=True)
class SchemaProblem:
    """One thing that is wrong with a table or a schema: where, which rule, and the way out."""

    column: str
    rule: str
    way_out: str

    def __str__(self) -> str:
        return f"column {self.column!r}: {self.rule}; {self.way_out}"


class SchemaError(PrivacyError):
    """A table does not fit its schema, or a schema is not one. `problems` lists all of them, by column."""

    def __init__(self, problems: Iterable[SchemaProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UnsupportedEvent(PrivacyError):
    """An accountant was given an event it cannot price. Never taken as free."""

    def __init__(self, event: object, *, accountant: str, reason: str) -> None:
        self.event = event
        self.accountant = accountant
        super().__init__(f"{accountant} cannot price {event!r}: {reason}")


class LedgerError(PrivacyError):
    """Root of the ledger's errors."""


class BudgetExceeded(LedgerError):
    """A spend was refused because an account's cap does not cover it. Nothing was charged.

    account                         whose cap it is: the account asked for, or one above it
    amount                          what is short: "rho", "epsilon", "delta", "divergence of order 8"
    requested, left                 of that amount: what was asked for, and the most that an event may still have
    requested_epsilon               what the request alone would cost at the account's delta
    epsilon_spent, epsilon_cap      charged or reserved so far, and the cap
    would_fit                       what would fit, in plain words
    """

    def __init__(
        self,
        *,
        account: str,
        requested_epsilon: float,
        requested: float,
        epsilon_cap: float,
        epsilon_spent: float,
        left: float,
        amount: str = "rho",
    ) -> None:
        self.account = account
        self.amount = amount
        self.requested_epsilon = requested_epsilon
        self.requested = requested
        self.epsilon_cap = epsilon_cap
        self.epsilon_spent = epsilon_spent
        self.left = left
        if left > 0:
            # Rounded to the side that fits: less of it, more noise. Epsilon falls like 1 / noise, the others like its
            # square; a delta is not met by noise.
            least, ratio = _six_digits_down(left), requested / left
            factor = (ratio if amount == "epsilon" else ratio**0.5) * 1.001
            noise = "" if amount == "delta" else f"{factor:.4g} times the noise, or "
            self.would_fit = f"what would fit is at most {amount} = {least}: {noise}a larger cap"
        else:
            self.would_fit = "nothing more fits under this cap"
        super().__init__(
            f"account {account!r}: asked for {amount} = {requested:.6g} (epsilon {requested_epsilon:.4g} by itself), "
            f"but epsilon {epsilon_spent:.4g} of {epsilon_cap:.4g} is spent or reserved and {amount} = {left:.6g} "
            f"is left; {self.would_fit}"
        )

    @property
    def requested_rho(self) -> float:
        """What was asked for, of an account that adds up rho."""
        return self.requested

    @property
    def rho_left(self) -> float:
        """The largest rho that an event may still have, of an account that adds up rho."""
        return self.left


def _six_digits_down(value: float) -> str:
    return format(Context(prec=6, rounding=ROUND_DOWN).create_decimal(value), "g")


class SpentWithoutAnswer(LedgerError):
    """The key was charged before and has no stored answer; asking again needs a new key and a new charge."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(
            f"key {key!r} was charged and no answer was stored; a fresh answer is a fresh release: use a new key"
        )


class KeyReused(LedgerError):
    """The key was used before with another account, event, purpose or data version."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(
            f"key {key!r} was used before for another spend; a key names one spend for ever: use a new key"
        )


class UnknownAccount(LedgerError):
    """The ledger holds no account of that name."""

    def __init__(self, account: str) -> None:
        self.account = account
        super().__init__(f"no account {account!r} in this ledger; open it first")


class LedgerCorrupt(LedgerError):
    """The journal does not verify, or the file is not a ledger of a known version. Nothing is spent from it."""
