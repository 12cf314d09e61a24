"""TLS of the ports: certificate, key and client authorities, read again when their files change.

Each new connection compares the files with the content in use. New content is used only if it is complete and
its parts match; until then the last good content stays in use. Open connections are not affected. calls.py
decides which principal a client certificate proves.
"""

import threading
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from identity_service.domain.errors import ConfigurationError
from identity_service.domain.ports import EventLog
from identity_service.process.file_access import MOUNT_ADVICE, irregular, others_may_read, why_unread

if TYPE_CHECKING:
    from identity_service.jose.certificates import CertificateFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The paths of the certificates and the key, in PEM."""

    certificate: Path
    """The server's certificate, followed by the intermediates up to an authority that clients trust."""
    key: Path
    client_ca: Path | None = None
    """The authorities whose client certificates are accepted; None = no client certificates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFacts:
    """The facts of the certificates in the files."""

    certificate: "CertificateFacts"
    authorities: "tuple[CertificateFacts, ...]"


@dataclass(frozen=True, slots=True)
class Content:
    """The content of the files that `TlsFiles` names."""

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None


class Certificates:
    """The certificates in use, which follow the files. Any thread may use it."""

    def __init__(self, files: TlsFiles, event_log: EventLog) -> None:
        """Read the files. Raises ConfigurationError if one is unreadable or they do not match."""
        self.files = files
        """The paths of the files."""
        self._event_log = event_log
        self._lock = threading.Lock()
        self._content = _read(files)
        self._facts = _check(self._content, files)
        self._refused = ""
        if warning := key_warning(files):
            event_log.record("tls_key_exposed", what=warning)

    def expire_time(self) -> datetime:
        """Return the time at which the server's certificate expires."""
        self.latest()
        return self._facts.certificate.expire_time

    @property
    def current(self) -> Content:
        """The content that `latest` has returned last; reads no file."""
        return self._content

    def latest(self) -> Content:
        """Return the content that a new connection uses; reads the files again.

        If the files cannot be read or do not match, the error is logged once and the previous content is
        returned.
        """
        with self._lock:
            try:
                # Compare the content: the modification time may not change, and a handshake costs far more.
                found = _read(self.files)
                if found != self._content:
                    self._facts = _check(found, self.files)
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
    """Return the facts of the files. Raises ConfigurationError if one is unreadable or they do not match."""
    return _check(_read(files), files)


def key_warning(files: TlsFiles) -> str:
    """Return a warning if other users may read the private key, with the remedy; else an empty text.

    The key is used all the same: many tools that renew certificates leave the files readable.
    """
    try:
        exposed = others_may_read(files.key.stat())
    except OSError:
        return ""
    return (
        f"other users may read {files.key}; run `chmod 600 {files.key}`, or {MOUNT_ADVICE}" if exposed else ""
    )


def _read(files: TlsFiles) -> Content:
    client_ca = _content("tls_client_ca", files.client_ca) if files.client_ca is not None else None
    return Content(_content("tls_certificate", files.certificate), _content("tls_key", files.key), client_ca)


def _content(setting: str, path: Path) -> bytes:
    try:
        if kind := irregular(path.stat()):  # opening a pipe would block until a writer opens it
            raise ConfigurationError(f"{setting}: {path} is {kind}; name a regular file")
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{setting}: cannot read {path}: {why_unread(error, path)}") from error


def _check(content: Content, files: TlsFiles) -> TlsFacts:
    # Imported here, since a process that supervises others without TLS does not need `cryptography`.
    from identity_service.jose.certificates import check_authorities, check_pair

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
