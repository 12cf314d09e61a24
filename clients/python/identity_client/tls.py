"""How the connection is encrypted: whom the client trusts, and what it shows of itself."""

from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """TLS of a connection; the defaults trust the roots that gRPC brings along and show no certificate.

    The files are read once, when the client is made.
    """

    ca_file: Path | None = None
    """PEM: the authorities that the service's certificate may come from."""
    certificate_file: Path | None = None
    """PEM: the client's own certificate, with what leads up to the authority; needs `key_file`."""
    key_file: Path | None = None
    """PEM: the private key of that certificate."""
    server_name: str | None = None
    """The name that the service's certificate must have, where it is not the host of the target."""

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("a client certificate and its key go together: set both, or none")

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC needs to know. Raises OSError: a file cannot be read."""
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca_file),
            private_key=_read(self.key_file),
            certificate_chain=_read(self.certificate_file),
        )

    def channel_arguments(self) -> list[tuple[str, str]]:
        return [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []


def _read(path: Path | None) -> bytes | None:
    return path.read_bytes() if path is not None else None
