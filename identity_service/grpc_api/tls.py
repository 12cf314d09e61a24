"""TLS of the gRPC port: certificate, key and client authorities, read anew as their files change.

Every new connection looks at the files, and nothing but whole, matching ones is used: until then the
last good ones serve on. Connections that are open stay as they were made. Who a certificate proves is
not decided here (see callers.py).
"""

import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import grpc

from identity_service.domain.errors import ConfigurationError
from identity_service.domain.ports import EventLog
from identity_service.jose.certificates import CertificateFacts, check_authorities, check_pair
from identity_service.process.file_access import MOUNT_ADVICE, irregular, others_may_read, why_unread

_SETTLE: Final = 0.25
"""Seconds. A handshake that has begun is done with the certificate before within microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where the certificates lie, in PEM."""

    certificate: Path
    """With what leads up to an authority that clients know."""
    key: Path
    client_ca: Path | None = None
    """The authorities whose client certificates are believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFacts:
    """What was found in the files."""

    certificate: CertificateFacts
    authorities: tuple[CertificateFacts, ...]


@dataclass(frozen=True, slots=True)
class Content:
    """What is in the files."""

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None

    def configuration(self, *, ask: bool) -> grpc.ServerCertificateConfiguration:
        roots = self.client_ca if ask else None
        return grpc.ssl_server_certificate_configuration([(self.key, self.certificate)], roots)


class Certificates:
    """The certificates in use. Any thread may ask."""

    def __init__(self, files: TlsFiles, event_log: EventLog) -> None:
        """Reads the files. Raises ConfigurationError: one is unreadable, or they do not fit together."""
        self._files = files
        self._event_log = event_log
        self._lock = threading.Lock()
        self._content = _read(files)
        self._facts = _check(self._content, files)
        self._refused = ""
        if warning := key_warning(files):
            event_log.record("tls_key_exposed", what=warning)

    def credentials(self, *, ask: bool) -> grpc.ServerCredentials:
        """For one port; `ask` = whoever connects must show a certificate, if there are client authorities."""
        # grpcio offers these two only: it asks everybody and insists, or it asks nobody.
        ask = ask and self._files.client_ca is not None
        given = self.latest()

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            latest = self.latest()
            if latest is given:
                return None
            given = latest
            # gRPC holds a lock around this call, and frees the certificate before as soon as it has the next
            # one, also while a handshake that has just left the lock still reads it: the process crashes
            # (grpc/grpc issue 36693). No other enters before this returns, and those that have left are done.
            time.sleep(_SETTLE)
            return latest.configuration(ask=ask)

        first = given.configuration(ask=ask)
        return grpc.dynamic_ssl_server_credentials(first, fetch, ask)  # type: ignore[arg-type]  # None = as it was

    def expire_time(self) -> datetime:
        """When the server's certificate expires."""
        self.latest()
        return self._facts.certificate.expire_time

    def latest(self) -> Content:
        """What a connection that is made now shall use."""
        with self._lock:
            try:
                # Compared whole: a time of change can stay the same, and the handshake costs far more.
                found = _read(self._files)
                if found != self._content:
                    self._facts = _check(found, self._files)
                    self._content = found
                    expire_time = self._facts.certificate.expire_time.isoformat()
                    self._event_log.record("tls_reloaded", expire_time=expire_time)
                self._refused = ""
            except ConfigurationError as error:
                if self._refused != str(error):
                    self._refused = str(error)
                    self._event_log.record("tls_refused", error=str(error))
            return self._content


def check_files(files: TlsFiles) -> TlsFacts:
    """What the files say. Raises ConfigurationError: one is unreadable, or they do not fit together."""
    return _check(_read(files), files)


def key_warning(files: TlsFiles) -> str:
    """Say that others may read the private key, and what to do; empty if they may not.

    It is served all the same: many tools that renew certificates leave the files like this.
    """
    try:
        exposed = others_may_read(files.key.stat())
    except OSError:
        return ""
    return f"others may read {files.key}; run `chmod 600 {files.key}`, or {MOUNT_ADVICE}" if exposed else ""


def _read(files: TlsFiles) -> Content:
    client_ca = _content("tls_client_ca", files.client_ca) if files.client_ca is not None else None
    return Content(_content("tls_certificate", files.certificate), _content("tls_key", files.key), client_ca)


def _content(setting: str, path: Path) -> bytes:
    try:
        if kind := irregular(path.stat()):  # to open a pipe would wait for a writer
            raise ConfigurationError(f"{setting}: {path} is {kind}; name a regular file")
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{setting}: cannot read {path}: {why_unread(error, path)}") from error


def _check(content: Content, files: TlsFiles) -> TlsFacts:
    try:
        certificate = check_pair(content.certificate, content.key)
    except ValueError as error:
        raise ConfigurationError(
            f"tls_certificate, tls_key: {files.certificate}, {files.key}: {error}"
        ) from error
    if content.client_ca is None:
        return TlsFacts(certificate=certificate, authorities=())
    try:
        return TlsFacts(certificate=certificate, authorities=tuple(check_authorities(content.client_ca)))
    except ValueError as error:
        raise ConfigurationError(f"tls_client_ca: {files.client_ca}: {error}") from error
