"""The rule for connections without TLS: only within this machine, unless the program allows plaintext.

Everything between two machines can read a connection without TLS, and with it the secrets and tokens.
"""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from identity_client.tls import TlsOptions

_LOCAL_SOCKETS: Final = ("unix:", "unix-abstract:")


def check_plaintext(target: str, *, allow_plaintext: bool) -> None:
    """Raise ValueError unless a connection to a target of gRPC may do without TLS."""
    if not may_be_plaintext(target, allow_plaintext=allow_plaintext):
        raise ValueError(
            f"{target} is not an address of this machine, and without TLS any host in between could read the "
            "secrets and tokens: set tls, as in ClientOptions(tls=TlsOptions(ca_file=Path('ca.pem'))), or "
            "ClientOptions(allow_plaintext=True)"
        )


def check_url(url: str, *, allow_plaintext: bool) -> None:
    """Raise ValueError unless a token may be sent to a URL: by https, or to this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" or allow_plaintext or is_loopback_host(parts.hostname or ""):
        return
    raise ValueError(
        f"no token is sent to {parts.hostname} by {parts.scheme or 'no scheme'}, since any host in between "
        "could read it: use https, or give allow_plaintext=True"
    )


def may_be_plaintext(target: str, *, allow_plaintext: bool) -> bool:
    """Return whether a connection may do without TLS: to this machine, or if plaintext is allowed."""
    return allow_plaintext or is_loopback(target)


def tls_by_default(target: str, tls: TlsOptions | None, *, allow_plaintext: bool) -> TlsOptions | None:
    """Return the TLS options of a connection that uses TLS wherever it is required; None = no TLS.

    Args:
        target: host:port.
        tls: the options to use in any case.
        allow_plaintext: whether to do without TLS to another machine.
    """
    if tls is not None or may_be_plaintext(target, allow_plaintext=allow_plaintext):
        return tls
    return TlsOptions()


def is_loopback(target: str) -> bool:
    """Return whether a target of gRPC is on this machine: 127.0.0.0/8, ::1, localhost, or a Unix socket.

    Other forms, such as a list of addresses, count as another machine.
    """
    if target.startswith(_LOCAL_SOCKETS):
        return True
    host, colon, port = target.removeprefix("dns:///").rpartition(":")
    if not colon or port.endswith("]"):  # without a port
        host = target.removeprefix("dns:///")
    return is_loopback_host(host.removeprefix("[").removesuffix("]"))


def is_loopback_host(host: str) -> bool:
    """Return whether a host of a URL, an address without brackets or a name, is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
