"""Tries out, once at start, whether the installed grpcio works with `receivers.py`."""

import platform
import secrets
import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc

from identity_service.domain.errors import ConfigurationError
from identity_service.grpc_api.core.open_calls import OpenCalls
from identity_service.grpc_api.core.receivers import UnaryReceiver
from identity_service.grpc_api.limits import Limits, LimitsConfig
from identity_service.grpc_api.threads import Threads
from identity_service.process.thread_limit import is_refusal

_SERVICE: Final = "identityapi.internal.Check"
_HELLO: Final = b"hello, this is the check"
_PATIENCE: Final = 10.0
"""Seconds for what takes a few milliseconds if it works."""
_STOP: Final = 1.0
_DATA, _HEADERS, _SETTINGS, _END_STREAM, _END_HEADERS = 0, 1, 4, 1, 4


def why_not() -> str:
    """Return why calls cannot be received by completions here; empty if they can.

    Serves one method with a single thread on a Unix socket, and calls it while another call has sent nothing.
    Raises RuntimeError or ConfigurationError if the system gives no thread, which says nothing of grpcio.
    """
    try:
        with _server() as address, socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PATIENCE)
            connection.connect(address)
            connection.sendall(_two_calls())
            received = b""
            while _HELLO not in received:
                piece = connection.recv(4096)
                if not piece:
                    return f"a call is not answered with grpcio {grpc.__version__}"
                received += piece
    except ConfigurationError:
        raise
    except Exception as error:  # whatever an unknown version does, there is the fallback
        if is_refusal(error):
            raise
        return f"{type(error).__name__} with grpcio {grpc.__version__}"
    return ""


class _Silent:
    """Implements the port EventLog: the check says what it found itself."""

    def record(self, event: str, **fields: object) -> None:
        """Forget it."""


@contextmanager
def _server() -> Iterator[str]:
    """Yield the address of the Unix socket of a server on which the method answers with its request."""
    threads = Threads(1, "identity-check")
    threads.start_first()
    calls = OpenCalls(Limits(LimitsConfig(), _Silent()))
    server = grpc.server(UnaryReceiver(calls, threads))
    handler: Any = grpc.unary_unary_rpc_method_handler(lambda data, _: data)
    server.add_registered_method_handlers(_SERVICE, {"Echo": handler})
    with _free_address() as address:
        # An abstract address begins with a zero byte for the system, and has a scheme of its own in gRPC.
        is_abstract = address.startswith("\0")
        server.add_insecure_port(f"unix-abstract:{address[1:]}" if is_abstract else f"unix:{address}")
        server.start()
        try:
            yield address
        finally:
            server.stop(0).wait(_STOP)  # where grpcio does not work, it may not stop either
            threads.shutdown(wait=False)


@contextmanager
def _free_address() -> Iterator[str]:
    """Yield an address that no other Unix socket has. On Linux it needs no directory to write to."""
    if platform.system() == "Linux":
        yield f"\0identity-check-{secrets.token_hex(16)}"
        return
    with tempfile.TemporaryDirectory() as directory:
        yield str(Path(directory) / "check")


def _two_calls() -> bytes:
    """HTTP/2 (RFC 9113) of one call that sends no message, and one that does."""
    fields = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", f"/{_SERVICE}/Echo"),
        (":authority", "check"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    )
    # Literal fields without indexing (RFC 7541, section 6.2.2).
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)
    message = b"\0" + len(_HELLO).to_bytes(4, "big") + _HELLO
    return (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, 1, block)
        + _frame(_HEADERS, _END_HEADERS, 3, block)
        + _frame(_DATA, _END_STREAM, 3, message)
    )


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">HBBBI", len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def _text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()
