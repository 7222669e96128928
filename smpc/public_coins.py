"""Public randomness that no party chooses: everybody commits before anybody shows.

r_i  32 bytes of party i;  c_i = SHA-256(session id, i, r_i): hiding, because r_i is uniform, and binding

All send c_i, then r_i. The coin is a stream from the exclusive or of all r_i, so one party that draws its own is enough
to make it uniform, as far as nobody leaves after having seen the others'. Who shows something else than it committed to
ends the run.

Source: Blum 1983, "Coin flipping by telephone".
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from smpc.errors import ProtocolAbort
from smpc.prg import SEED_BYTES, Prg

if TYPE_CHECKING:
    from smpc._rounds import Rounds


async def coin(session: Rounds, n_bytes: int) -> bytes:
    """Return `n_bytes` that all parties know and none chose. Two rounds; in one run every call gives others.

    Raises
    ------
    ProtocolAbort
        If a party shows something else than it committed to.
    """
    mine = session.rng.bytes(SEED_BYTES)
    commitments = await session.exchange(_commitment(session, session.party, mine))
    shown = await session.exchange(mine)
    total = bytes(SEED_BYTES)
    for party, (committed, seed) in enumerate(zip(commitments, shown, strict=True)):
        if len(seed) != SEED_BYTES or not hmac.compare_digest(committed, _commitment(session, party, seed)):
            raise ProtocolAbort(f"party {party} showed something else than it had committed to", party=party)
        total = bytes(a ^ b for a, b in zip(total, seed, strict=True))
    return Prg(total, b"coin").bytes(n_bytes)


def _commitment(session: Rounds, party: int, seed: bytes) -> bytes:
    # Bound to session and party: nobody can commit to another's number by sending its commitment again.
    return hashlib.sha256(b"synthema/smpc/coin/1\x00" + session.session_id + bytes([party]) + seed).digest()
