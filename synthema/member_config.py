"""What the files of all members say alike: where the hub is, and which files hold keys and certificates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

if TYPE_CHECKING:
    from synthema.networks.line import HubAddress, MemberFiles

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Section(BaseModel):
    """A section of a file: what is misspelt is not passed over."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class HubSection(Section):
    """Where the hub is, and the certificate (SHA-256 of its DER bytes, hex) by which it is known."""

    address: str
    fingerprint: Hex32

    @field_validator("address")
    @classmethod
    def _has_port(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
            raise ValueError('must be written "host:port"')
        return value

    def hub_address(self) -> HubAddress:
        """Return the address as a line takes it."""
        from synthema.networks.line import HubAddress

        host, _, port = self.address.rpartition(":")
        return HubAddress(host.strip("[]"), int(port), bytes.fromhex(self.fingerprint))


class MemberKeys(Section):
    """Files of keys and certificates, made at enrolment. Secret ones have mode 0600."""

    identity: str = "keys/identity.key"
    tls_key: str = "keys/tls.key"
    tls_certificate: str = "keys/member.crt"
    hub_certificate: str = "keys/hub-ca.crt"

    def member_files(self, folder: Path) -> MemberFiles:
        """Return the files as a line takes them; names are looked up in the folder."""
        from synthema.networks.line import MemberFiles

        return MemberFiles(
            folder / self.identity, folder / self.tls_key, folder / self.tls_certificate, folder / self.hub_certificate
        )
