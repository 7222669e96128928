"""What a member's line and the hub say to each other below messages: the first record, and short notices.

Inside TLS go the records of `smpc.transport.relay_wire`; on a line an address is a member's number, `RELAY` the hub.
The hub puts the sender's number in the place of the receiver's and forwards the body as it is.

    first record   "SYL1", number of the last message of the hub that this member has handled (8)
    notices        a byte and a number: to or from the hub itself only, and shorter than any piece of a message

`BEAT` both ways, so that each end knows that the other lives; `HANDLED` to the hub: its message of this number and all
before are done with; `TAKEN` from the hub: the message with this id is on disk; `ABSENT` from the hub: the member of
this number is not there, what was sent to it is lost; `CLOSED`: the hub ends the connection, for this reason.
"""

from __future__ import annotations

import struct

LINE_MAGIC = b"SYL1"
LINE_HELLO = struct.Struct("<4sQ")
LINE_NOTICE = struct.Struct("<cQ")

# No hub sends so many messages to one member; whoever claims to have handled more lies, and its next would not count.
MOST_HANDLED = 1 << 51

BEAT, HANDLED, TAKEN, ABSENT, CLOSED = b"B", b"H", b"T", b"A", b"C"

MALFORMED, NOT_A_MEMBER, REPLACED, TOO_SLOW, SILENT, TOO_LATE, REVOKED, NO_CERTIFICATE, FULL = range(1, 10)
CLOSING_REASONS = {
    MALFORMED: "what this member sent is not what the hub understands",
    NOT_A_MEMBER: "the hub does not list this certificate: it was revoked, or belongs to another hub",
    REPLACED: "this member connected once more, from elsewhere",
    TOO_SLOW: "this member did not read what was sent to it",
    SILENT: "this member was silent for too long",
    TOO_LATE: "the connection was not used in time",
    REVOKED: "the hub's operator revoked this member",
    NO_CERTIFICATE: "without a certificate only an invitation can be used here",
    FULL: "the hub has as many members connected as it takes",
}
# Trying again soon is no use: an operator has to act.
LASTING_REASONS = frozenset({NOT_A_MEMBER, REVOKED, NO_CERTIFICATE})


def line_notice(kind: bytes, number: int = 0) -> bytes:
    """Return the body of a notice."""
    return LINE_NOTICE.pack(kind, number)
