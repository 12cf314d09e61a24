"""Certificates for tests: an authority that writes files as an operator would, and TLS connections.

The module also replaces files as tools that renew certificates do. It asserts nothing.
"""

import hashlib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc

from identity_client import TlsOptions
from identity_service.jose.authority import Authority
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as rpc
from tests.patience import PATIENCE

DAY = timedelta(days=1)
LOOPBACK = ("localhost", "127.0.0.1")


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A certificate and its private key, in files."""

    certificate_file: Path
    key_file: Path

    @property
    def der(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert(self.certificate_file.read_text())

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.der).digest()

    @property
    def thumbprint(self) -> str:
        """Return the thumbprint in the form in which an administrator registers it for a client."""
        return f"sha256:{self.sha256.hex()}"

    def settings(self, **more: object) -> dict[str, object]:
        """Return the settings of a service with this certificate, and `more`."""
        return {"tls_certificate": self.certificate_file, "tls_key": self.key_file, **more}


class Certifier:
    """A certificate authority, and the folder of the certificates that it issues."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._authority = Authority(name, lifetime=DAY)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._authority.certificate)

    def server(
        self, name: str = "server", *, names: Sequence[str] = LOOPBACK, lifetime: timedelta = DAY
    ) -> Holder:
        return self._holder(name, self._authority.issue(name, names=names, lifetime=lifetime, server=True))

    def client(self, name: str, *names: str, lifetime: timedelta = DAY) -> Holder:
        """Issue a client's certificate with these DNS names and URIs."""
        return self._holder(name, self._authority.issue(name, names=names, lifetime=lifetime, client=True))

    def _holder(self, name: str, pair: tuple[bytes, bytes]) -> Holder:
        holder = Holder(certificate_file=self._folder / f"{name}.pem", key_file=self._folder / f"{name}.key")
        replace(holder.certificate_file, pair[0])
        replace(holder.key_file, pair[1])
        return holder

    def options(self, holder: Holder | None = None) -> TlsOptions:
        """Return the options of a client that trusts this authority and presents the holder's certificate."""
        return TlsOptions(
            ca_file=self.file,
            certificate_file=holder.certificate_file if holder else None,
            key_file=holder.key_file if holder else None,
        )

    def channel(self, target: str, holder: Holder | None = None) -> grpc.Channel:
        """Open a channel that shares no connection with other channels."""
        alone = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.secure_channel(target, self.options(holder).credentials(), options=alone)


def replace(path: Path, content: bytes) -> None:
    """Write the new content beside the file, and rename it: no reader sees a part of it."""
    new = path.with_name(f".{path.name}.new")
    new.touch(0o600)
    new.write_bytes(content)
    new.replace(path)


def reaches(target: str, certifier: Certifier, holder: Holder | None = None) -> bool:
    """Return whether the service answers a call over a new connection."""
    with certifier.channel(target, holder) as channel:
        try:
            rpc.IdentityServiceStub(channel).Issue(pb.IssueRequest(), timeout=PATIENCE)
        except grpc.RpcError as error:
            call: grpc.Call = error  # type: ignore[assignment]  # the exception of a stub is one
            return call.code() is not grpc.StatusCode.UNAVAILABLE
    raise AssertionError("an empty request was not refused")


def handshake(target: str, version: ssl.TLSVersion | None = None) -> tuple[str | None, bytes]:
    """Return the version of TLS that the server chooses, and the certificate that it presents.

    The client trusts every certificate. If the test gives a version, however old, the client offers only that
    one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if version is not None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
    host, _, port = target.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return connection.version(), connection.getpeercert(binary_form=True) or b""


def shown(target: str) -> bytes:
    """Return the certificate that the server presents to a new connection."""
    return handshake(target)[1]
