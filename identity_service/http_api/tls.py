"""Certificates as Python's ssl takes them: each new connection gets those of the files."""

import ssl
import threading

from identity_service.domain.errors import ConfigurationError
from identity_service.transport.tls import Certificates, Content


class TlsContexts:
    """The context of new connections, which follows the certificates. Any thread may use it."""

    def __init__(self, certificates: Certificates, *, ask: bool = False) -> None:
        """Load the certificates. Raises ConfigurationError if OpenSSL does not accept them.

        With `ask`, every client must present a certificate of the client authorities.
        """
        self._certificates = certificates
        self._ask = ask
        self._lock = threading.Lock()
        self._content: Content | None = None
        self._context = self.latest()

    def latest(self) -> ssl.SSLContext:
        """Return the context for a new connection; reads the files.

        If the files change while they are read, the previous context is returned.
        """
        with self._lock:
            content = self._certificates.latest()
            if content is self._content:
                return self._context
            try:
                self._context = self._load(content)
                self._content = content
            except OSError as error:  # includes SSLError
                if self._content is None:
                    raise ConfigurationError(f"tls_certificate, tls_key: {error}") from error
            return self._context

    def _load(self, content: Content) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        files = self._certificates.files
        # `ssl` loads keys from files only. With a password given, it never asks for one on the terminal.
        context.load_cert_chain(files.certificate, files.key, password=b"")
        if self._ask:
            context.verify_mode = ssl.CERT_REQUIRED
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as gRPC: an intermediate is an authority
            # Text between the certificates may have any characters.
            context.load_verify_locations(cadata=(content.client_ca or b"").decode("ascii", "ignore"))
        return context
