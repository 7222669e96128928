"""One compute party's side of a protocol: what costs a message is awaited here.

All parties run the same coroutine. Security is semi-honest with a dishonest majority: up to n - 1 parties that follow
the protocol learn, from everything they see together, nothing beyond their inputs and what was opened (given a dealer
that colludes with none of them). Masked values and openings all pass through one function, `Rounds.reveal`.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from privacy._checks import check_non_negative
from privacy.randomness import Rng
from smpc._orders import Orders
from smpc._products import bits_of
from smpc._real import words_of
from smpc._rounds import Layout, Record
from smpc.binary import BITS
from smpc.bitplanes import unpack_bits
from smpc.bits import SharedBits
from smpc.errors import FrameRejected, RangeExceeded, UnsupportedSecurity
from smpc.fixed_point import FixedPoint
from smpc.material import MaterialStore
from smpc.prg import SEED_BYTES
from smpc.ring import RING64, Domain, Words
from smpc.shared import Shared, check_bound
from smpc.sharing import expand_seed
from smpc.transport import Transport
from smpc.truncation import TRUNCATIONS, Truncating

Security = Literal["semi_honest", "malicious"]
SECURITY_LEVELS: tuple[Security, ...] = ("semi_honest",)

# 1 GB of 64-bit words. An input that claims more is refused before memory is asked for: it is a seed and a shape, so a
# few bytes could otherwise ask for all the memory there is.
_MOST_ELEMENTS = 2**27

Opened = npt.NDArray[Any]


def check_security(security: str) -> None:
    """Raise UnsupportedSecurity unless the protocols here reach this level."""
    if security not in SECURITY_LEVELS:
        raise UnsupportedSecurity(security, available=SECURITY_LEVELS)


class Session(Orders):
    """One party's side of a run.

    Parameters
    ----------
    party, n_parties
        0..n_parties - 1, and 2..5.
    transport
        Lines to the others.
    material
        This party's share of the correlated randomness.
    session_id
        16 bytes, the same at all parties and fresh for each run.
    security
        "semi_honest".
    truncation
        How products of fixed-point numbers are cut back: "exact" to the nearest, "stochastic" or "local"; see
        `smpc.truncation`.
    timeout
        Seconds that a round waits for the others' messages.
    record
        If given, everything received is appended to it. For tests.
    rng
        This party's own randomness.
    """

    def __init__(
        self,
        *,
        party: int,
        n_parties: int,
        transport: Transport,
        material: MaterialStore,
        session_id: bytes,
        security: Security = "semi_honest",
        truncation: Truncating = "exact",
        timeout: float = 60.0,
        record: Record | None = None,
        rng: Rng,
    ) -> None:
        check_security(security)
        if truncation not in TRUNCATIONS:
            raise ValueError(f"truncation must be one of {', '.join(TRUNCATIONS)}, got {truncation!r}")
        super().__init__(
            party=party,
            n_parties=n_parties,
            transport=transport,
            material=material,
            session_id=session_id,
            timeout=timeout,
            record=record,
            rng=rng,
        )
        self.security = security
        self.truncation = truncation

    # Where shared values come from.

    def shared(self, share: Words, domain: Domain = RING64, *, bound: int | None = None, frac_bits: int = 0) -> Shared:
        """Wrap a share that came from outside, for example from a hospital that is not a compute party.

        Raises
        ------
        ValueError, RangeExceeded
            If the array does not hold elements of the domain.
        """
        if share.dtype != np.uint64:
            raise ValueError(f"a share is an array of uint64 words, got dtype {share.dtype}")
        return Shared(self, domain, domain.checked(share), bound=bound, frac_bits=frac_bits)

    async def input(
        self,
        x: npt.ArrayLike,
        *,
        domain: Domain = RING64,
        max_abs: float | None = None,
        frac_bits: int = 0,
    ) -> list[Shared]:
        """Share one array from each party. One round, 32 bytes and the shape to each other party.

        Shapes may differ between parties; they are public.

        Parameters
        ----------
        x
            Integers, or real numbers if `frac_bits` is given.
        max_abs
            Declared range, the same at all parties: comparisons and products of declared numbers cannot wrap, and
            comparisons are faster. Without it, integers are elements of the domain and wrap like them.
        frac_bits
            Fractional bits of real numbers; 0 for integers. Needs `max_abs`.

        Returns
        -------
        Item i: what party i put in.

        Raises
        ------
        RangeExceeded
            If a number lies beyond the declared range, or the domain does not hold it. Nothing was sent.
        """
        elements, bound = _encode(x, domain, max_abs, frac_bits)
        seeds = [b"" if peer == self.party else self.rng.bytes(SEED_BYTES) for peer in range(self.n_parties)]
        shape = struct.pack(f"<{elements.ndim}Q", *elements.shape)
        payloads = [np.frombuffer(seed + shape, dtype=np.uint8) for seed in seeds]
        received = await self._exchange(f"input {domain} {bound} {frac_bits}", payloads)
        shares = []
        for sender, payload in enumerate(received):
            if sender == self.party:
                # The one who knows the value keeps the difference; the others hold streams of fresh seeds.
                rest = elements
                for seed in seeds:
                    if seed:
                        rest = domain.sub(rest, expand_seed(seed, domain, elements.shape))
                shares.append(rest)
            else:
                shares.append(_expand_input(payload.tobytes(), domain, sender))
        return [Shared(self, domain, words, bound=bound, frac_bits=frac_bits) for words in shares]

    def random(self, shape: int | tuple[int, ...], domain: Domain = RING64) -> Shared:
        """Return uniform elements that no coalition of n - 1 parties knows. Local: each draws its share."""
        lengths = (shape,) if isinstance(shape, int) else shape
        return Shared(self, domain, domain.random(lengths, self.rng))

    def random_bits(self, length: int, *lead: int) -> SharedBits:
        """Return uniform bits that no coalition of n - 1 parties knows, shape (*lead, length). Local."""
        words = BITS.random((*lead, -(-length // 64)), self.rng)
        return SharedBits(self, words, length)

    # Opening.

    @overload
    async def open(self, x: Shared | SharedBits, /) -> Opened: ...

    @overload
    async def open(
        self, x: Shared | SharedBits, y: Shared | SharedBits, /, *more: Shared | SharedBits
    ) -> tuple[Opened, ...]: ...

    async def open(self, *xs: Shared | SharedBits) -> Opened | tuple[Opened, ...]:
        """Make shared arrays known to all parties, in one round, whatever their domains.

        Returns
        -------
        Signed integers, real numbers of fixed-point arrays, or booleans of bits, shape of each array: one array, or a
        tuple if several were given.
        """
        self._check_mine(*xs)
        layout = Layout([_part(x) for x in xs])
        shares = [bits_of(x) if isinstance(x, SharedBits) else words_of(x) for x in xs]
        if len(shares) == 1 and shares[0].flags.c_contiguous:
            # A share is never written to, so it can be sent from where it is.
            buffer = shares[0].reshape(-1).view(np.uint8)
        else:
            buffer = layout.buffer()
            for share, view in zip(shares, layout.views(buffer), strict=True):
                view[...] = share
        words = await self.reveal("open", layout, buffer)
        opened = tuple(_decode(x, part) for x, part in zip(xs, words, strict=True))
        return opened[0] if len(opened) == 1 else opened


def _part(x: Shared | SharedBits) -> tuple[Domain, tuple[int, ...]]:
    return (BITS, bits_of(x).shape) if isinstance(x, SharedBits) else (x.domain, x.shape)


def _decode(x: Shared | SharedBits, words: Words) -> Opened:
    if isinstance(x, SharedBits):
        return unpack_bits(words, x.length).astype(bool)
    # The words were added up for this opening and are nobody else's: no copy is needed to read them as signed.
    integers = words.view(np.int64) if x.domain is RING64 else x.domain.to_signed(words)
    return FixedPoint(x.frac_bits, x.domain).decode(integers) if x.frac_bits else integers


def _encode(x: npt.ArrayLike, domain: Domain, max_abs: float | None, frac_bits: int) -> tuple[Words, int | None]:
    """Return the elements of an input, and their declared bound in units of 2^-frac_bits."""
    if frac_bits:
        if max_abs is None:
            raise ValueError("real numbers need a declared range: max_abs")
        # Checks the range as well.
        encoded = FixedPoint(frac_bits, domain).encode(x, max_abs=max_abs)
        return domain.from_signed(encoded), math.ceil(Fraction(max_abs) * 2**frac_bits)
    elements = domain.from_signed(x)
    if max_abs is None:
        return elements, None
    check_non_negative("max_abs", max_abs)
    bound = math.floor(max_abs)
    check_bound(bound, domain)
    signed = domain.to_signed(elements)
    if signed.size and (int(signed.max()) > bound or int(signed.min()) < -bound):
        raise RangeExceeded(
            rule=f"a value is not within the declared bound of {max_abs!r}",
            way_out="clip to the public bound, or declare a larger one",
        )
    return elements, bound


def _expand_input(payload: bytes, domain: Domain, sender: int) -> Words:
    """Return this party's share of a peer's input from its seed and shape."""
    seed, lengths = payload[:SEED_BYTES], payload[SEED_BYTES:]
    if len(seed) != SEED_BYTES or len(lengths) % 8 or len(lengths) > 8 * 32:
        raise FrameRejected("it is not a seed and a shape", sender=sender)
    shape = struct.unpack(f"<{len(lengths) // 8}Q", lengths)
    if math.prod(max(length, 1) for length in shape) > _MOST_ELEMENTS:
        raise FrameRejected("the input is too large", sender=sender)
    return expand_seed(seed, domain, shape)
