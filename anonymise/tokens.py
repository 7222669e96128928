"""Reversible pseudonyms: equal ids give equal tokens, and whoever holds the key reads the id back.

token   AES-SIV(sub-key of the domain, padded id): 128-bit tag, then as many bytes as the padded id; hexadecimal
padded  the id's UTF-8 bytes, 0x80, and zeros to a multiple of 16: lengths tell 16-byte steps and no more

AES-SIV (RFC 5297; AES-256, sub-key of 64 bytes) is deterministic authenticated encryption: what a token shows is which
ids are equal, and a token that was changed or made under another key or domain is refused. Deterministic means that
whoever can have ids of their choice encrypted can compare; without the key nobody can. Format-preserving encryption is
not offered: on the small domains of hospital numbers it is a codebook, and FF3 is broken (Durak, Vaudenay 2017).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from anonymise._ids import Ids, as_objects, column_name, distinct_ids
from anonymise.encoded import distinct
from anonymise.errors import TokenRejected
from anonymise.keys import Domain, KeyDomain, KeyRing, Keys, PseudonymKey, as_domain, current_key, hidden
from anonymise.pseudonyms import hex_texts

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

_KEY_BYTES: Final = 64
_BLOCK: Final = 16
_TOKEN: Final = re.compile(r"(?:v([1-9][0-9]{0,5})\.)?((?:[0-9a-f]{32}){2,})")
_REASON_CHANGED: Final = "holds a token that was changed, or made with another key or domain"


def encrypt_ids(ids: Ids, key: Keys, *, domain: Domain) -> npt.NDArray[np.str_]:
    """Return the token of each id, after "v2." if a ring's version 2 made it; shape (n,).

    Ids are read as by `pseudonymise`. Raises ValueError, naming column and rule, for a missing or empty id.

    Examples
    --------
    >>> key = PseudonymKey(bytes(range(32)))
    >>> tokens = encrypt_ids(["MRN-1", "MRN-2", "MRN-1"], key, domain=("aml-2026", "patient"))
    >>> bool(tokens[0] == tokens[2]), bool(tokens[0] == tokens[1]), len(tokens[0])
    (True, False, 64)
    >>> decrypt_ids(tokens, key, domain=("aml-2026", "patient")).tolist()
    ['MRN-1', 'MRN-2', 'MRN-1']
    """
    key = hidden(key)
    where = as_domain(domain)
    codes, texts = distinct_ids(ids, column_name(ids, where.field))
    secret, version = current_key(key)
    encrypt = _cipher(secret, where, version).encrypt
    sealed = [encrypt(_padded(text), None) for text in texts]
    lengths = set(map(len, sealed))
    if len(lengths) <= 1:
        return hex_texts(sealed, version)[codes]
    prefix = "" if version is None else f"v{version}."
    width = 2 * max(lengths) + len(prefix)
    return np.array([prefix + token.hex() for token in sealed], dtype=f"U{width}")[codes]


def decrypt_ids(tokens: Ids, key: Keys, *, domain: Domain) -> npt.NDArray[np.object_]:
    """Return the id of each token as text, shape (n,). A ring reads the tokens of all its versions, mixed as they are.

    Raises TokenRejected, naming the column and the rule, if any token is changed, of another key or domain, or of a
    version that the ring does not hold.
    """
    from cryptography.exceptions import InvalidTag

    key = hidden(key)
    where = as_domain(domain)
    column = column_name(tokens, where.field)
    codes, found = distinct(tokens if isinstance(tokens, pd.Series) else as_objects(tokens))
    parsed = [_parsed(token, column) for token in found.tolist()]
    ciphers = _ciphers({version for version, _ in parsed}, key, where, column)
    try:
        texts = [_unpadded(ciphers[version].decrypt(sealed, None)) for version, sealed in parsed]
    except (InvalidTag, ValueError):
        raise TokenRejected(
            column=column, rule=_REASON_CHANGED, way_out="check the key, the domain and that the column is whole"
        ) from None
    out = np.empty(len(texts), dtype=object)
    out[:] = texts
    return np.asarray(out[codes])


def reencrypt_ids(tokens: Ids, ring: KeyRing, *, domain: Domain) -> npt.NDArray[np.str_]:
    """Return each token made anew with the ring's current key, shape (n,); raises as `decrypt_ids`.

    Examples
    --------
    >>> ring = KeyRing({1: PseudonymKey(bytes(range(32)))})
    >>> old = encrypt_ids(["MRN-1"], ring, domain=("aml-2026", "patient"))
    >>> new = reencrypt_ids(old, ring.rotated(), domain=("aml-2026", "patient"))
    >>> old[0][:3], new[0][:3]
    ('v1.', 'v2.')
    """
    ids = pd.Series(decrypt_ids(tokens, ring, domain=domain), name=column_name(tokens, as_domain(domain).field))
    return encrypt_ids(ids, ring, domain=domain)


def _cipher(secret: PseudonymKey, domain: KeyDomain, version: int | None) -> AESSIV:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    return AESSIV(secret.subkey("token", domain, version=version, length=_KEY_BYTES))


def _ciphers(
    wanted: set[int | None], key: PseudonymKey | KeyRing, domain: KeyDomain, column: str
) -> dict[int | None, AESSIV]:
    if not isinstance(key, KeyRing):
        secret, _ = current_key(key)
        if wanted - {None}:
            raise TokenRejected(
                column=column,
                rule="holds tokens that name the version of their key, and one key without a version was given",
                way_out="give the key ring that made them",
            )
        return {None: _cipher(secret, domain, None)}
    if not wanted <= set(key.versions):
        raise TokenRejected(
            column=column,
            rule=f"holds a token of a version that the key ring does not have (versions {list(key.versions)})",
            way_out="give the ring with the older key, or the single key for tokens without a version",
        )
    return {version: _cipher(key.key(version), domain, version) for version in key.versions if version in wanted}


def _parsed(token: object, column: str) -> tuple[int | None, bytes]:
    found = _TOKEN.fullmatch(token) if isinstance(token, str) else None
    if found is None:
        raise TokenRejected(
            column=column,
            rule="holds a value that is no token",
            way_out="tokens are hexadecimal, as encrypt_ids made them",
        )
    return None if found[1] is None else int(found[1]), bytes.fromhex(found[2])


def _padded(text: str) -> bytes:
    data = text.encode() + b"\x80"
    return data.ljust(-(-len(data) // _BLOCK) * _BLOCK, b"\0")


def _unpadded(data: bytes) -> str:
    text, mark, _ = data.rpartition(b"\x80")
    if not mark:
        raise ValueError("no padding")
    return text.decode()
