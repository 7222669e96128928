"""A pseudorandom stream from 32 bytes: shares that a peer can expand for itself need not be sent.

seed   32 uniform bytes
label  what the stream is for; different labels of one seed give independent streams

The key is HMAC-SHA256(seed, label), and the stream is AES-256 in counter mode from block 0. A key serves one stream,
so the fixed first counter block is never used for anything else. Byte b of the stream lies in block b div 16, so that a
stream can be entered anywhere. HMAC is a pseudorandom function of its key (Bellare 2006), which
makes the streams of different labels independent; all 256 bits of the seed enter the key.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from privacy._checks import check_count
from privacy.randomness import WordSource

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext

SEED_BYTES = 32
_BLOCK_BYTES = 16

# Encrypting zeros yields the key stream. A chunk of this length stays in the second-level cache.
_ZEROS = memoryview(bytes(1 << 18))


class Prg(WordSource):
    """Deterministic stream of uniform words: a `privacy.Rng` for whoever holds the seed.

    Parameters
    ----------
    seed
        32 bytes from a cryptographic source. Whoever knows them knows the stream.
    label
        Purpose of the stream.
    start
        First byte of the stream that is returned; those before it are passed over at no cost.

    Raises
    ------
    ValueError
        If the seed has another length, or `start` is no byte of a stream of less than 2^64 bytes.

    Examples
    --------
    >>> seed = bytes(32)
    >>> (Prg(seed, b"a").uint64(3) == Prg(seed, b"a").uint64(3)).all()
    np.True_
    >>> (Prg(seed, b"a").uint64(3) == Prg(seed, b"b").uint64(3)).any()
    np.False_
    >>> Prg(seed, b"a").bytes(100)[37:] == Prg(seed, b"a", start=37).bytes(63)
    True
    """

    def __init__(self, seed: bytes, label: bytes, *, start: int = 0) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"seed must have {SEED_BYTES} bytes, got {len(seed)}")
        check_count("start", start, least=0)
        if start >= 2**64:
            raise ValueError(f"start must be below 2^64, got {start!r}")
        block, skipped = divmod(start, _BLOCK_BYTES)
        self._stream = _key_stream(hmac.digest(seed, b"synthema/smpc/prg/1\x00" + label, "sha256"), block)
        if skipped:
            self._stream.update(_ZEROS[:skipped])

    def __repr__(self) -> str:
        return "Prg(<hidden>)"

    def fill(self, out: npt.NDArray[np.uint64]) -> None:
        """Overwrite `out`, C-contiguous and little-endian, with the next words of the stream."""
        if not out.flags.c_contiguous or out.dtype != np.dtype("<u8"):
            raise ValueError("out must be a C-contiguous array of little-endian 64-bit words")
        if out.size:
            self._fill_bytes(out.reshape(-1).data.cast("B"))

    def fill_bytes(self, out: npt.NDArray[Any]) -> None:
        """Overwrite `out`, C-contiguous and of any unsigned type, with the next bytes of the stream."""
        if not out.flags.c_contiguous or out.dtype.kind != "u":
            raise ValueError("out must be a C-contiguous array of unsigned words")
        if out.size:
            self._fill_bytes(out.reshape(-1).data.cast("B"))

    def uint64(self, size: int) -> npt.NDArray[np.uint64]:
        """Return the next `size` words, uniform on [0, 2^64)."""
        out = np.empty(size, dtype="<u8")
        self.fill(out)
        return out

    def bytes(self, n: int) -> bytes:
        """Return the next `n` bytes."""
        out = bytearray(n)
        self._fill_bytes(memoryview(out))
        return bytes(out)

    def _fill_bytes(self, out: memoryview) -> None:
        for start in range(0, len(out), len(_ZEROS)):
            part = out[start : start + len(_ZEROS)]
            self._stream.update_into(_ZEROS[: len(part)], part)


def _key_stream(key: bytes, block: int) -> CipherContext:
    return _key_stream_maker()(key, block.to_bytes(_BLOCK_BYTES, "big"))


@cache
def _key_stream_maker() -> Callable[[bytes, bytes], CipherContext]:
    # Imported at the first stream: whoever only reads types or schemas does not wait for OpenSSL. Once and not for
    # each stream: looking three names up in packages costs as much as the rest of opening a stream.
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CTR

    return lambda key, counter: Cipher(AES(key), CTR(counter)).encryptor()
