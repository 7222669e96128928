"""A site's budget history: append-only, hash-chained, crash-safe, and verifiable by others.

`open_ledger` opens or makes a ledger: one SQLite file, or a PostgreSQL database. Accounts hold a cap; a spend is
reserved and started on disk before any row is touched, and its answer is stored with the charge. `verify` recomputes
everything from what is kept.
What leaves the house: `export.export` writes all entries for `verify_export`, `prove` one entry for `check_proof`.
`backup.backup` makes a verified copy, `doctor.doctor` looks at the ledger's surroundings, `history` is for pictures.

>>> import tempfile
>>> from privacy import DiscreteGaussian
>>> folder = tempfile.mkdtemp()
>>> with open_ledger(f"sqlite:///{folder}/site.db", site="vienna") as ledger:
...     ledger.open_account("aml-2026", epsilon=3.0, delta=1e-6, neighbours="add_remove_one")
...     event = DiscreteGaussian(noise_multiplier=20.0)
...     with ledger.spend("aml-2026", event, key="job-17/step-1", purpose="a count") as spend:
...         answer = spend.release(42)
...     with ledger.spend("aml-2026", event, key="job-17/step-1", purpose="a count") as spend:
...         spend.stored
42
>>> verify(f"sqlite:///{folder}/site.db").ok
True
"""

from privacy.ledger._postgres_schema import grant_writer
from privacy.ledger.accounts import Account, Remaining
from privacy.ledger.chain import Entry
from privacy.ledger.cosigning import WitnessPolicy
from privacy.ledger.errors import LedgerRefused, LedgerRestored, LedgerUnavailable
from privacy.ledger.export import verify_export, verify_file
from privacy.ledger.keys import generate_key, load_key
from privacy.ledger.ledger import Ledger, open_ledger
from privacy.ledger.notes import Signer, Verifier
from privacy.ledger.proofs import ProofInvalid, check_proof, prove
from privacy.ledger.quotes import Quote
from privacy.ledger.reservations import Reservation, Spend
from privacy.ledger.verification import Verification, verify
from privacy.ledger.witness import LocalWitness, Witness, WitnessConflict, WitnessRefused, WitnessUnavailable

__all__ = [
    "Account",
    "Entry",
    "Ledger",
    "LedgerRefused",
    "LedgerRestored",
    "LedgerUnavailable",
    "LocalWitness",
    "ProofInvalid",
    "Quote",
    "Remaining",
    "Reservation",
    "Signer",
    "Spend",
    "Verification",
    "Verifier",
    "Witness",
    "WitnessConflict",
    "WitnessPolicy",
    "WitnessRefused",
    "WitnessUnavailable",
    "check_proof",
    "generate_key",
    "grant_writer",
    "load_key",
    "open_ledger",
    "prove",
    "verify",
    "verify_export",
    "verify_file",
]
