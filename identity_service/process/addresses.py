"""Listening addresses that several worker processes share (SO_REUSEPORT)."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from identity_service.domain.errors import ConfigurationError


@contextmanager
def reserved(address: str, setting: str = "listen") -> Iterator[str]:
    """Bind host:port, so that workers can share it and no other program can take it.

    Yields host:port; port 0 is replaced by a free port. Raises ConfigurationError if the address is taken,
    which tells the operator to change this setting.
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
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            shared.bind(place)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {address} ({error.strerror}): stop the process that listens there, or "
                f"change `{setting}`"
            ) from error
        yield f"{host}:{place[1]}"
