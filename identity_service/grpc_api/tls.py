"""Certificates as gRPC takes them: each new connection of a port gets those of the files."""

import time
from typing import Final

import grpc

from identity_service.transport.tls import Certificates, Content

_HANDSHAKE_TIME: Final = 0.25
"""The number of seconds to wait before a certificate is replaced.

A handshake that has begun stops using the previous certificate within microseconds.
"""


def server_credentials(certificates: Certificates, *, ask: bool) -> grpc.ServerCredentials:
    """Return the credentials of one port, which follow the certificates.

    With `ask`, every client must present a certificate, if client authorities are set.
    """
    given = certificates.latest()
    # grpcio has only two modes: a certificate is required of every client, or requested of none.
    ask = ask and given.client_ca is not None

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        latest = certificates.latest()
        if latest is given:
            return None
        given = latest
        # gRPC holds a lock during this call and frees the previous certificate when it returns, even if a
        # handshake that has just left the lock still reads it; then the process crashes (grpc/grpc issue
        # 36693). While this call sleeps, no handshake can enter, and those that have left finish.
        time.sleep(_HANDSHAKE_TIME)
        return _configuration(latest, ask=ask)

    first = _configuration(given, ask=ask)
    return grpc.dynamic_ssl_server_credentials(first, fetch, ask)  # type: ignore[arg-type]  # None = no change


def _configuration(content: Content, *, ask: bool) -> grpc.ServerCertificateConfiguration:
    roots = content.client_ca if ask else None
    return grpc.ssl_server_certificate_configuration([(content.key, content.certificate)], roots)
