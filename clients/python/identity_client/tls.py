"""The TLS options of a connection: the authorities that the client trusts, and its own certificate."""

from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """The TLS options of a connection. The defaults trust gRPC's root certificates, and show no certificate.

    The files are read when the client opens a channel: when it is made, and when a watch reconnects.
    """

    ca_file: Path | None = None
    """A PEM file with the authorities that may have issued the service's certificate; None = the roots of
    gRPC."""
    certificate_file: Path | None = None
    """A PEM file with the client's certificate, followed by its intermediate certificates; needs
    `key_file`."""
    key_file: Path | None = None
    """A PEM file with the private key of `certificate_file`."""
    server_name: str | None = None
    """The name in the service's certificate; None = the host of the target."""

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("set certificate_file and key_file together, or neither")

    def credentials(self) -> grpc.ChannelCredentials:
        """Return the credentials for `grpc.secure_channel`. Raises OSError if a file cannot be read."""
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca_file),
            private_key=_read(self.key_file),
            certificate_chain=_read(self.certificate_file),
        )

    def channel_arguments(self) -> list[tuple[str, str]]:
        """Return the channel arguments that make gRPC expect `server_name`."""
        return [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []


def _read(path: Path | None) -> bytes | None:
    return path.read_bytes() if path is not None else None
