"""How frames get from party to party: in one process, over mutual TLS, or through a relay that cannot read them."""

from smpc.transport.base import Transport
from smpc.transport.certificates import TlsFiles, certificate_fingerprint, new_certificate_files
from smpc.transport.direct import DirectTransport, InsecurePlainTransport
from smpc.transport.frames import (
    HEADER_BYTES,
    OPERATION_BYTES,
    SESSION_ID_BYTES,
    Frame,
    decode_frame,
    encode_frame,
    payload_length,
)
from smpc.transport.in_process import InProcessTransport
from smpc.transport.pump import NetworkTransport
from smpc.transport.relay import Relay, RelayLimits
from smpc.transport.relayed import RelayTransport
from smpc.transport.roster import Identity, Member, Roster, new_identity_file

__all__ = [
    "HEADER_BYTES",
    "OPERATION_BYTES",
    "SESSION_ID_BYTES",
    "DirectTransport",
    "Frame",
    "Identity",
    "InProcessTransport",
    "InsecurePlainTransport",
    "Member",
    "NetworkTransport",
    "Relay",
    "RelayLimits",
    "RelayTransport",
    "Roster",
    "TlsFiles",
    "Transport",
    "certificate_fingerprint",
    "decode_frame",
    "encode_frame",
    "new_certificate_files",
    "new_identity_file",
    "payload_length",
]
