"""Secret keys of pseudonyms: each domain has a sub-key of its own, and keys are replaced without losing the old names.

key       32 bytes from a cryptographic source
domain    (project, field) or (project, field, site): equal ids are linkable within a domain and, without the key,
          nowhere else. Without a site the domain is common to all sites that hold the key.
version   number of a key in a ring, written in front of what was made with it: "v2."
sub-key   HKDF-SHA-256(key, info = purpose, project, field and, where there are any, site and version)        RFC 5869

Whoever holds a key can re-identify (EDPB Guidelines 01/2025: pseudonymised data stay personal data): keep it apart from
the data. A key hides from repr, messages and pickles. It is not wiped from memory: Python may have copied its bytes.
"""

from __future__ import annotations

import hmac
import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from anonymise._checks import is_whole
from anonymise._key_files import read_key_file, write_key_file

KEY_BYTES: Final = 32
_MOST_VERSIONS: Final = 1_000_000
_HEX_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")
_RING_LINE: Final = re.compile(r"v([1-9][0-9]{0,5}) ([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class KeyDomain:
    """Where pseudonyms of one id are equal: one field of one project, at all sites or at one.

    Examples
    --------
    >>> KeyDomain("aml-2026", "patient", site="vienna")
    KeyDomain(project='aml-2026', field='patient', site='vienna')
    """

    project: str
    field: str
    site: str | None = None

    def __post_init__(self) -> None:
        for name, text in (("project", self.project), ("field", self.field), ("site", self.site)):
            given: object = text
            if given is None and name == "site":
                continue
            if not isinstance(given, str) or not given.strip():
                raise ValueError(f"domain: {name} must be a text, neither empty nor blank")
            # Two spellings of one name would give two domains, and sites that mean the same would not agree.
            if given != unicodedata.normalize("NFC", given.strip()):
                raise ValueError(f"domain: write {name} without blanks around it, in Unicode's composed form (NFC)")


Domain = KeyDomain | tuple[str, str] | tuple[str, str, str]


def as_domain(domain: Domain) -> KeyDomain:
    """Return a domain given as a tuple, or as it is."""
    if isinstance(domain, KeyDomain):
        return domain
    given: object = domain
    if not isinstance(given, tuple) or len(given) not in (2, 3):
        raise ValueError("domain must be (project, field) or (project, field, site)")
    return KeyDomain(*given)


class PseudonymKey:
    """A 32-byte secret that does not show itself: not in repr, and it refuses to be pickled.

    Examples
    --------
    >>> PseudonymKey.generate()
    PseudonymKey(hidden)
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        given: object = secret
        if not isinstance(given, bytes) or len(given) != KEY_BYTES:
            # What was given is not repeated: it may be a key. Not even as a local variable of a printed traceback.
            del secret, given
            raise ValueError(f"a pseudonym key is {KEY_BYTES} bytes from a cryptographic source")
        self._secret = secret

    @classmethod
    def generate(cls) -> PseudonymKey:
        """Return a new random key."""
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def from_file(cls, path: str | Path) -> PseudonymKey:
        """Read a key of 64 hexadecimal digits from a file that only its owner can touch. Raises ValueError."""
        return cls(_key_of_hex(read_key_file(Path(path)), Path(path).name))

    @classmethod
    def from_environment(cls, variable: str = "SYNTHEMA_PSEUDONYM_KEY") -> PseudonymKey:
        """Read a key of 64 hexadecimal digits from an environment variable. Raises ValueError.

        A file is the better place: other processes of the same user, and crash reports, can see an environment.
        """
        if variable not in os.environ:
            raise ValueError(f"environment variable {variable} is not set")
        return cls(_key_of_hex(os.environ[variable], variable))

    def save(self, path: str | Path) -> None:
        """Write the key to a new file of mode 0600; an existing file is never overwritten (FileExistsError)."""
        write_key_file(Path(path), f"{self.hexadecimal()}\n")

    def subkey(self, purpose: str, domain: Domain, *, version: int | None = None, length: int = 32) -> bytes:
        """Return the HKDF sub-key of a purpose and a domain."""
        where = as_domain(domain)
        # Lengths before texts: ("ab", "c") and ("a", "bc") are different domains; so are four parts and six.
        texts = ["synthema/anonymise/v1", purpose, where.project, where.field]
        if where.site is not None or version is not None:
            texts += [where.site or "", "" if version is None else str(version)]
        parts = [text.encode() for text in texts]
        info = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hkdf_sha256(self._secret, info=info, length=length)

    def hexadecimal(self) -> str:
        """Return the secret in 64 hexadecimal digits for the site's key store: the one door through which it leaves."""
        return self._secret.hex()

    def same_as(self, other: PseudonymKey) -> bool:
        """Return whether two keys are equal, in a time that does not tell where they differ."""
        return hmac.compare_digest(self._secret, other._secret)

    def __repr__(self) -> str:
        """Hide the secret."""
        return "PseudonymKey(hidden)"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Refuse to be pickled or copied into another process by accident."""
        _refuse_to_pickle()

    def __getstate__(self) -> NoReturn:
        """Refuse: a state would hold the secret."""
        _refuse_to_pickle()


class KeyRing:
    """Numbered keys, one of them current: it makes new pseudonyms, the others still read what they made.

    Examples
    --------
    >>> ring = KeyRing({1: PseudonymKey.generate()})
    >>> ring.rotated()
    KeyRing(versions=(1, 2), current=2)
    """

    __slots__ = ("_current", "_keys")

    def __init__(self, keys: Mapping[int, PseudonymKey], *, current: int | None = None) -> None:
        if not keys:
            raise ValueError("a key ring needs at least one key")
        for version, key in keys.items():
            if not is_whole(version, least=1, most=_MOST_VERSIONS - 1):
                raise ValueError(f"versions of keys are whole numbers from 1 to {_MOST_VERSIONS - 1}, got {version!r}")
            if not isinstance(key, PseudonymKey):
                raise ValueError(f"version {version} of a key ring must be a PseudonymKey")
        held = [keys[version] for version in sorted(keys)]
        if any(one.same_as(other) for i, one in enumerate(held) for other in held[:i]):
            raise ValueError("two versions of a key ring are the same key: a rotation needs a new one")
        if current is not None and current not in keys:
            raise ValueError(f"current must be one of the versions {sorted(keys)}, got {current!r}")
        self._keys = dict(sorted(keys.items()))
        self._current = max(keys) if current is None else current

    @classmethod
    def from_file(cls, path: str | Path) -> KeyRing:
        """Read keys, one a line as "v2 <64 hexadecimal digits>", from a file that only its owner can touch.

        The highest version is the current one. Raises ValueError.
        """
        keys: dict[int, PseudonymKey] = {}
        for line in read_key_file(Path(path)).splitlines():
            found = _RING_LINE.fullmatch(line.strip())
            if found is None or int(found[1]) in keys:
                raise ValueError(
                    f'{Path(path).name} is not a key ring: each line must be "v1 <64 hexadecimal digits>", each '
                    "version once"
                )
            keys[int(found[1])] = PseudonymKey(bytes.fromhex(found[2]))
        return cls(keys)

    def save(self, path: str | Path) -> None:
        """Write the keys to a new file of mode 0600; an existing file is never overwritten (FileExistsError)."""
        write_key_file(Path(path), "".join(f"v{version} {key.hexadecimal()}\n" for version, key in self._keys.items()))

    @property
    def versions(self) -> tuple[int, ...]:
        """Versions of the keys, ascending."""
        return tuple(self._keys)

    @property
    def current(self) -> int:
        """Version that new pseudonyms are made with."""
        return self._current

    def key(self, version: int) -> PseudonymKey:
        """Return the key of a version. Raises ValueError if there is none."""
        if version not in self._keys:
            raise ValueError(f"this key ring has no version {version!r}, only {list(self._keys)}")
        return self._keys[version]

    def rotated(self, key: PseudonymKey | None = None) -> KeyRing:
        """Return the ring with one more key, which is the current one: a new random one by default."""
        new = max(self._keys) + 1
        return KeyRing({**self._keys, new: PseudonymKey.generate() if key is None else key}, current=new)

    def without(self, version: int) -> KeyRing:
        """Return the ring without a version: nothing that was made with it can be read any more."""
        self.key(version)
        if version == self._current:
            raise ValueError("the current key cannot be taken out; rotate first")
        kept = {number: key for number, key in self._keys.items() if number != version}
        return KeyRing(kept, current=self._current)

    def __repr__(self) -> str:
        """Name the versions, hide the secrets."""
        return f"KeyRing(versions={self.versions}, current={self._current})"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Refuse to be pickled or copied into another process by accident."""
        _refuse_to_pickle()

    def __getstate__(self) -> NoReturn:
        """Refuse: a state would hold the secrets."""
        _refuse_to_pickle()


Keys = PseudonymKey | KeyRing | bytes


def hidden(keys: Keys) -> PseudonymKey | KeyRing:
    """Return a key given as bytes as one that does not show; the others as they are.

    Doors put this in the place of their argument first, so that no traceback with local variables shows the bytes.
    """
    return PseudonymKey(keys) if isinstance(keys, bytes) else keys


def current_key(keys: PseudonymKey | KeyRing) -> tuple[PseudonymKey, int | None]:
    """Return the key that makes new pseudonyms, and its version if it comes from a ring."""
    return (keys.key(keys.current), keys.current) if isinstance(keys, KeyRing) else (keys, None)


def hkdf_sha256(key: bytes, *, info: bytes, salt: bytes | None = None, length: int = 32) -> bytes:
    """Return `length` bytes derived from a key (RFC 5869, HMAC-SHA-256)."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(key)


def _key_of_hex(text: str, place: str) -> bytes:
    if not _HEX_KEY.fullmatch(text.strip()):
        del text
        raise ValueError(f"{place} holds no key: 64 hexadecimal digits are expected")
    return bytes.fromhex(text.strip())


def _refuse_to_pickle() -> NoReturn:
    raise TypeError("a pseudonym key is not serialised; use save(), which makes a file that only its owner can read")
