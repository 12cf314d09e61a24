"""Listening addresses: shared by several worker processes (SO_REUSEPORT), and why one cannot be used."""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from identity_service.domain.errors import ConfigurationError


def with_port(address: str, port: int) -> str:
    """Return host:port with this port in place of its own."""
    return f"{address.rpartition(':')[0]}:{port}"


def port_of(address: str) -> int:
    """Return the port of host:port; 0 for an empty text."""
    return int(address.rpartition(":")[2] or 0)


@contextmanager
def reserved(address: str, setting: str) -> Iterator[str]:
    """Bind host:port, so that workers can share it and no other program can take it.

    Yields host:port; port 0 is replaced by a free port. Raises ConfigurationError, which names the setting,
    if the address cannot be bound.
    """
    host, _, port = address.rpartition(":")
    with ExitStack() as stack:
        try:
            family, kind, _, _, place = socket.getaddrinfo(
                host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            # First without SO_REUSEPORT, which would hide that another program shares the address.
            with socket.socket(family, kind) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(place)
                place = alone.getsockname()
            shared = stack.enter_context(socket.socket(family, kind))
            # Without it, connections that a service closed in the last minute (TIME_WAIT) take the address.
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            shared.bind(place)
        except OSError as error:
            raise cannot_listen(address, setting, error) from error
        yield f"{host}:{place[1]}"


def why_not_bound(address: str, setting: str) -> ConfigurationError:
    """Return the error for an address that a library could not bind, without saying why.

    The reason is found out by binding the address once more.
    """
    try:
        with reserved(address, setting):
            return ConfigurationError(f"cannot listen on {address}: try again, or change `{setting}`")
    except ConfigurationError as error:
        return error


def cannot_listen(address: str, setting: str, error: OSError) -> ConfigurationError:
    """Return the error for an address of `setting` that the system does not let this process bind."""
    if error.errno == errno.EADDRINUSE:
        variable = f"IDENTITY_{setting.upper()}"
        remedy = f"stop the process that listens there, or change `{setting}` ({variable})"
    elif isinstance(error, PermissionError):
        remedy = f"set `{setting}` to a port from 1024 on, or grant the capability NET_BIND_SERVICE"
    else:
        remedy = f"set `{setting}` to an address of this machine, or to 0.0.0.0 for all of them"
    return ConfigurationError(f"cannot listen on {address} ({error.strerror}): {remedy}")
