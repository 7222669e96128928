"""The dealer as a party of its own: packages of material for compute parties elsewhere, made before any run.

A batch is a list of amounts of kinds, made for n parties at once and under one random number. Each party gets a package
(`smpc.package`), sealed for its key (`smpc.sealed_files`): a few hundred bytes, and the corrections for the last party.
The dealer keeps nothing.

The dealer knows every mask. Together with any single party it sees all that the parties multiply or compare, and so can
reconstruct the inputs; by itself it sees nothing, for it gets no message of a run. It must therefore be another legal
entity than the parties and than whoever carries their messages: `check_separate` compares what is declared.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from privacy.randomness import Rng, SecureRng
from smpc.errors import DealerNotSeparate, MaterialUnavailable, PackageRefused
from smpc.material import Dealer, Kind
from smpc.package import BATCH_BYTES, Manifest, package_pieces
from smpc.plans import MOST_ITEMS, MOST_KINDS
from smpc.sealed_files import sealed
from smpc.transport.roster import Identity

TRUST = (
    "The dealer together with any one party can reconstruct the inputs of every run on this material. Let it be "
    "another legal entity than the parties and than the relay's operator, and let it keep no copy."
)


@dataclass(frozen=True, slots=True)
class DealtBatch:
    """What a dealer made.

    batch     random number of the batch
    files     of the packages, by party
    n_bytes   of each
    seconds   it took, for all parties: offline cost, none of it in a run
    """

    batch: bytes
    files: tuple[Path, ...]
    n_bytes: tuple[int, ...]
    seconds: float


def deal(
    amounts: Mapping[Kind, int],
    n_parties: int,
    folder: Path,
    *,
    recipients: Sequence[bytes] | None = None,
    identity: Identity | None = None,
    rng: Rng | None = None,
) -> DealtBatch:
    """Make a batch: `party-0.package` and so on, in a folder that exists. Memory does not grow with the amounts.

    Parameters
    ----------
    amounts
        How many items of each kind.
    n_parties
        2..5.
    recipients, identity
        The parties' X25519 public keys and the dealer's signing key. Without them the packages are not sealed: whoever
        carries one can read all masks of that party.
    rng
        Source of the seeds; the operating system's by default. Anything else protects nobody.

    Raises
    ------
    PackageRefused
        If a package of that name exists, an amount is out of range, or a recipient's key is none.
    MaterialUnavailable
        If the disk fails. What was written so far is removed.

    Examples
    --------
    >>> import tempfile
    >>> from smpc.kinds import Product
    >>> from smpc.ring import RING64
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     dealt = deal({Product(RING64): 1000}, 2, Path(folder))
    >>> [file.name for file in dealt.files], dealt.n_bytes[1] - dealt.n_bytes[0]
    (['party-0.package', 'party-1.package'], 8016)
    """
    if (recipients is None) != (identity is None):
        raise ValueError("sealing needs the recipients' keys and the dealer's identity")
    if recipients is not None and len(recipients) != n_parties:
        raise ValueError(f"there must be a key for each of {n_parties} parties, got {len(recipients)}")
    if len(amounts) > MOST_KINDS or any(not 0 <= count <= MOST_ITEMS for count in amounts.values()):
        raise PackageRefused(f"a batch has up to {MOST_KINDS} kinds and up to {MOST_ITEMS} items of each")
    began = time.perf_counter()
    source = SecureRng() if rng is None else rng
    dealer = Dealer(n_parties, rng=source)
    batch = source.bytes(BATCH_BYTES)
    wanted = {kind: count for kind, count in amounts.items() if count}
    files: list[Path] = []
    sizes: list[int] = []
    try:
        for party in range(n_parties):
            manifest = Manifest(batch, n_parties, party, wanted)
            pieces: Iterator[bytes] = package_pieces(manifest, dealer.seed(party), dealer if manifest.is_last else None)
            if recipients is not None and identity is not None:
                pieces = sealed(pieces, recipients[party], identity)
            path = folder / f"party-{party}.package"
            sizes.append(_write(path, pieces, files))
    except BaseException:
        for path in files:
            path.unlink(missing_ok=True)
        raise
    return DealtBatch(batch, tuple(files), tuple(sizes), time.perf_counter() - began)


def _write(path: Path, pieces: Iterable[bytes], written: list[Path]) -> int:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        written.append(path)
        with os.fdopen(descriptor, "wb") as file:
            length = sum(file.write(piece) for piece in pieces)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise PackageRefused(f"{path.name} exists, and a package is never overwritten") from None
    except OSError as error:
        raise MaterialUnavailable(path.name, reason=f"it cannot be written ({error.strerror})") from error
    return length


def check_separate(dealer: str, *, relay: str | None, parties: Sequence[str]) -> None:
    """Check that the declared operator of the dealer is none of those who see the parties' messages.

    Names are compared without regard to case, spaces and punctuation. That different names are different legal
    entities is for people to know.

    Raises
    ------
    DealerNotSeparate
        If it is one of them.

    Examples
    --------
    >>> check_separate("Trust Office Graz", relay="Hub Vienna", parties=["AKH Wien", "LKH Graz"])
    """
    name = _folded(dealer)
    if relay is not None and _folded(relay) == name:
        raise DealerNotSeparate(dealer, role="the relay's operator")
    for party, operator in enumerate(parties):
        if _folded(operator) == name:
            raise DealerNotSeparate(dealer, role=f"compute party {party}")


def _folded(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
