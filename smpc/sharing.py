"""Additive secret sharing: x = x_0 + ... + x_{n-1}, any n - 1 summands uniform whatever x is.

n  number of parties, 2..5

All shares but the last are streams of 32-byte seeds, so sharing a million numbers among three parties sends 8 MB and
64 bytes. The last share is the difference, uniform because each stream is (up to the pseudorandomness of AES).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privacy.randomness import Rng, SecureRng
from smpc.errors import DomainMismatch
from smpc.prg import SEED_BYTES, Prg
from smpc.ring import RING64, Domain, Words

LEAST_PARTIES = 2
MOST_PARTIES = 5

_LABEL = b"share"


def check_parties(n_parties: int) -> None:
    """Raise ValueError unless the number of compute parties is an integer in 2..5."""
    if isinstance(n_parties, bool) or not isinstance(n_parties, int):
        raise ValueError(f"n_parties must be an integer, got {type(n_parties).__name__}")
    if not LEAST_PARTIES <= n_parties <= MOST_PARTIES:
        raise ValueError(f"n_parties must be in {LEAST_PARTIES}..{MOST_PARTIES}, got {n_parties!r}")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SharePackage:
    """What one party is sent of a shared array: a seed to expand, or the share itself.

    domain   in which the share is an element
    shape    of the shared array; public
    seed     32 bytes, or None
    values   the share, or None
    """

    domain: Domain
    shape: tuple[int, ...]
    seed: bytes | None = None
    values: Words | None = None

    def __post_init__(self) -> None:
        if (self.seed is None) == (self.values is None):
            raise ValueError("a package holds either a seed or the values of a share")
        if self.values is not None and self.values.shape != self.shape:
            raise ValueError(f"values must have the package's shape {self.shape}, got {self.values.shape}")

    def __repr__(self) -> str:
        return f"SharePackage({self.domain}, shape={self.shape}, n_bytes={self.n_bytes})"

    @property
    def n_bytes(self) -> int:
        """Number of bytes that have to be sent."""
        if self.values is not None:
            return int(self.values.nbytes)
        return SEED_BYTES

    def expand(self) -> Words:
        """Return the share, elements of `domain`, shape `shape`."""
        if self.values is not None:
            return self.values
        return expand_seed(self.seed or b"", self.domain, self.shape)


def expand_seed(seed: bytes, domain: Domain, shape: tuple[int, ...]) -> Words:
    """Return the share that a seed stands for, shape `shape`."""
    return domain.random(shape, rng=Prg(seed, _LABEL))


def share(
    values: npt.ArrayLike, n_parties: int, *, domain: Domain = RING64, rng: Rng | None = None
) -> list[SharePackage]:
    """Split integers into one package for each party.

    Parameters
    ----------
    values
        Integers, any shape. Booleans count as 0 and 1.
    n_parties
        2..5.
    domain
        RING64 or FIELD61.
    rng
        Source of the seeds; the operating system's by default. Anything else protects nobody.

    Returns
    -------
    `n_parties` packages. All together they give the values; any fewer say nothing but domain and shape.

    Raises
    ------
    RangeExceeded
        If an integer does not fit the domain.

    Examples
    --------
    >>> packages = share([3, -4], 3)
    >>> packages
    [SharePackage(RING64, shape=(2,), n_bytes=32), SharePackage(RING64, shape=(2,), n_bytes=32),
     SharePackage(RING64, shape=(2,), n_bytes=16)]
    >>> reconstruct(packages)
    array([ 3, -4])
    """
    check_parties(n_parties)
    source = SecureRng() if rng is None else rng
    rest = domain.from_signed(values)
    packages = [SharePackage(domain, rest.shape, seed=source.bytes(SEED_BYTES)) for _ in range(n_parties - 1)]
    for package in packages:
        rest = domain.sub(rest, package.expand())
    return [*packages, SharePackage(domain, rest.shape, values=rest)]


def reconstruct(packages: Sequence[SharePackage]) -> npt.NDArray[np.int64]:
    """Return the integers that all packages of one `share` (or sums of such) stand for.

    Raises
    ------
    DomainMismatch, ValueError
        If the packages do not belong together.
    """
    check_parties(len(packages))
    first = packages[0]
    total = first.expand()
    for package in packages[1:]:
        if package.domain != first.domain:
            raise DomainMismatch(first.domain.name, package.domain.name)
        if package.shape != first.shape:
            raise ValueError(f"packages must have one shape, got {first.shape} and {package.shape}")
        total = first.domain.add(total, package.expand())
    return first.domain.to_signed(total)


def pool(packages: Sequence[SharePackage], *, domain: Domain = RING64) -> Words:
    """Return one party's share of the sum of several arrays: its packages, one of each sender, added up in place.

    Raises
    ------
    DomainMismatch, ValueError, RangeExceeded
        If there are none, they are not of this domain or not of one shape, or hold words that are no elements.

    Examples
    --------
    >>> one, two = share([1, 2], 2), share([10, -20], 2)
    >>> sums = [pool(packages) for packages in zip(one, two)]
    >>> reconstruct([SharePackage(RING64, (2,), values=words) for words in sums])
    array([ 11, -18])
    """
    if not packages:
        raise ValueError("there is no package to add up")
    shape = packages[0].shape
    total = np.zeros(shape, dtype=domain.dtype)
    for package in packages:
        if package.domain != domain:
            raise DomainMismatch(domain.name, package.domain.name)
        if package.shape != shape:
            raise ValueError(f"packages must have one shape, got {shape} and {package.shape}")
        # A seed's words are elements by construction; those of somebody else are looked at.
        words = package.expand() if package.values is None else domain.checked(package.values)
        domain.add(total, words, out=total)
    return total
