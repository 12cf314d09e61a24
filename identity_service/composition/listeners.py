"""Translates the settings of the listeners: their addresses, and the files of their certificates.

The process that supervises Envoy needs these settings alone, and so it imports this module and not
`opening.py`, with which it would take 19 MB more (bar S11).
"""

from contextlib import ExitStack

from identity_service.process.addresses import reserved
from identity_service.settings import Settings
from identity_service.transport.tls import TlsFiles


def reserve_addresses(settings: Settings, stack: ExitStack) -> Settings:
    """Reserve the addresses on which clients connect until the stack is closed.

    Returns the settings with the ports that stand for port 0. Raises ConfigurationError if one is taken.
    """
    found = {
        name: stack.enter_context(reserved(address, name))
        for name, address in (
            ("listen", settings.listen),
            ("mtls_listen", settings.mtls_listen),
            ("http_listen", "" if settings.shares_port else settings.http_listen),
            ("http_mtls_listen", settings.http_mtls_listen),
        )
        if address
    }
    if settings.shares_port:
        found["http_listen"] = found["listen"]
    return settings.model_copy(update=found)


def places(settings: Settings) -> dict[str, str]:
    """Return host:port of each listener, by its setting; a port 0 stands for one that is not known."""
    names = ("listen", "mtls_listen", "http_listen", "http_mtls_listen", "metrics_listen")
    return {name: place for name in names if (place := getattr(settings, name))}


def tls_files(settings: Settings) -> TlsFiles | None:
    """Return the paths of the TLS files for the gRPC port; None = no TLS."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return TlsFiles(
        certificate=settings.tls_certificate, key=settings.tls_key, client_ca=settings.tls_client_ca
    )
