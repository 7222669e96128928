"""Messages between compute parties: a fixed header, then raw bytes.

header, 72 bytes, little-endian:
    magic      4 bytes   b"SYF1"
    session   16 bytes   drawn afresh for each run: a frame of another run does not fit
    operation  8 bytes   digest of what is sent (which operation, domains, shapes): parties that got out of step notice
    step       8 bytes   number of the round, counted from 0: a replayed or delayed frame does not fit
    sender     2 bytes
    dtype      1 byte    1: 64-bit words; 2: bytes
    ndim       1 byte    1..4
    shape     32 bytes   four lengths, 0 beyond ndim
The payload's length follows from dtype and shape. Nothing is unpickled, and nothing is allocated for a header that
promises more than `MAX_PAYLOAD_BYTES`. Secrecy and authenticity are the business of the line that carries it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from smpc.errors import FrameRejected

MAGIC = b"SYF1"
SESSION_ID_BYTES = 16
OPERATION_BYTES = 8
MAX_DIMENSIONS = 4
MAX_PAYLOAD_BYTES = 2**34

_HEADER = struct.Struct("<4s16s8sQHBB4Q")
HEADER_BYTES = _HEADER.size

_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<u8"), 2: np.dtype("u1")}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Frame:
    """One message. `payload` is read-only: several receivers may look at one buffer."""

    session_id: bytes
    operation: bytes
    step: int
    sender: int
    payload: npt.NDArray[Any]

    def __repr__(self) -> str:
        return f"Frame(step={self.step}, sender={self.sender}, shape={self.payload.shape}, dtype={self.payload.dtype})"

    @property
    def n_bytes(self) -> int:
        """Length on the wire, header included."""
        return HEADER_BYTES + int(self.payload.nbytes)


def encode_frame(frame: Frame) -> tuple[bytes, memoryview]:
    """Return header and payload as two buffers, so that a large payload is not copied.

    Raises
    ------
    ValueError
        If the payload is not an array of words or bytes with 1..4 axes.
    """
    dtype, ndim = frame.payload.dtype, frame.payload.ndim
    if dtype not in _CODES or not 1 <= ndim <= MAX_DIMENSIONS:
        raise ValueError(f"a payload has 1..4 axes of words or bytes, got {ndim} of {dtype}")
    payload = np.ascontiguousarray(frame.payload)
    lengths = (*payload.shape, *(0 for _ in range(MAX_DIMENSIONS - payload.ndim)))
    header = _HEADER.pack(
        MAGIC,
        frame.session_id,
        frame.operation,
        frame.step,
        frame.sender,
        _CODES[payload.dtype],
        payload.ndim,
        *lengths,
    )
    # A view with a zero in its shape cannot be cast.
    raw = payload.reshape(-1).data.cast("B") if payload.size else memoryview(b"")
    return header, raw.toreadonly()


def payload_length(header: bytes) -> int:
    """Return how many bytes follow a header: what a reader of a stream needs to know next.

    Raises
    ------
    FrameRejected
        If the header is not one.
    """
    dtype, shape = _checked_header(header)[4:]
    return dtype.itemsize * math.prod(shape)


def decode_frame(header: bytes, payload: bytes | memoryview) -> Frame:
    """Return the frame that two buffers hold.

    Raises
    ------
    FrameRejected
        On any byte that is not as `encode_frame` writes it.
    """
    session_id, operation, step, sender, dtype, shape = _checked_header(header)
    if len(payload) != dtype.itemsize * math.prod(shape):
        raise FrameRejected("the payload is not as long as the header says")
    array = np.frombuffer(payload, dtype=dtype).reshape(shape)
    array.flags.writeable = False
    return Frame(session_id, operation, step, sender, array)


def _checked_header(header: bytes) -> tuple[bytes, bytes, int, int, np.dtype[Any], tuple[int, ...]]:
    if len(header) != HEADER_BYTES:
        raise FrameRejected(f"the header must have {HEADER_BYTES} bytes")
    magic, session_id, operation, step, sender, code, ndim, *lengths = _HEADER.unpack(header)
    if magic != MAGIC:
        raise FrameRejected("the header does not begin with this format's mark")
    dtype = _DTYPES.get(code)
    if dtype is None:
        raise FrameRejected("the type of the payload is unknown")
    if not 1 <= ndim <= MAX_DIMENSIONS or any(lengths[ndim:]):
        raise FrameRejected("the shape is not one of 1..4 axes")
    shape = tuple(lengths[:ndim])
    # Python integers do not wrap, so lengths whose product exceeds 64 bits are caught here as well.
    if dtype.itemsize * math.prod(max(length, 1) for length in shape) > MAX_PAYLOAD_BYTES:
        raise FrameRejected("the payload is too large")
    return session_id, operation, step, sender, dtype, shape
