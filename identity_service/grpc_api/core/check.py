"""A check at start whether the installed grpcio works with `calls.py`."""

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
from identity_service.grpc_api.compression import Decompressor
from identity_service.grpc_api.core.calls import OpenCalls, Receiver
from identity_service.grpc_api.threads import Threads
from identity_service.process.thread_limit import is_refusal
from identity_service.transport.limits import Limits, LimitsConfig

_SERVICE: Final = "identityapi.internal.Check"
_MESSAGE: Final = b"hello, this is the check"
_PATIENCE: Final = 10.0
"""Seconds that the check may take; it takes a few milliseconds if grpcio works."""
_STOP: Final = 1.0
_DATA, _HEADERS, _SETTINGS, _END_STREAM, _END_HEADERS = 0, 1, 4, 1, 4


def why_not() -> str:
    """Return the reason why the completion queue cannot receive calls; empty if it can.

    Serves one method with a single thread on a Unix socket. The method is called while another call, which
    has sent no message, is open.

    Raises RuntimeError or ConfigurationError if the system gives no thread, which says nothing about grpcio.
    """
    try:
        with _server() as address, socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PATIENCE)
            connection.connect(address)
            connection.sendall(_two_calls())
            received = b""
            while _MESSAGE not in received:
                piece = connection.recv(4096)
                if not piece:
                    return f"a call is not answered with grpcio {grpc.__version__}"
                received += piece
    except ConfigurationError:
        raise
    except Exception as error:  # an unknown version may raise anything; the fallback serves
        if is_refusal(error):
            raise
        return f"{type(error).__name__} with grpcio {grpc.__version__}"
    return ""


class _NullEventLog:
    """An EventLog that discards every event; `why_not` returns the result of the check."""

    def record(self, event: str, **fields: object) -> None:
        """Discard the event."""


@contextmanager
def _server() -> Iterator[str]:
    """Yield the address of the Unix socket of a server whose method returns its request."""
    threads = Threads(1, "identity-check")
    threads.start_first()
    calls = OpenCalls(Limits(LimitsConfig(), _NullEventLog()))
    server = grpc.server(Receiver(calls, threads, Decompressor(max_bytes=len(_MESSAGE), enough=None)))
    handler: Any = grpc.unary_unary_rpc_method_handler(lambda data, _: data)
    server.add_registered_method_handlers(_SERVICE, {"Echo": handler})
    with _free_address() as address:
        # An abstract address begins with a zero byte in the system's API, and has its own URI scheme in gRPC.
        is_abstract = address.startswith("\0")
        server.add_insecure_port(f"unix-abstract:{address[1:]}" if is_abstract else f"unix:{address}")
        server.start()
        try:
            yield address
        finally:
            server.stop(0).wait(_STOP)  # a grpcio that fails the check may not stop either
            threads.shutdown(wait=False)


@contextmanager
def _free_address() -> Iterator[str]:
    """Yield the address of an unused Unix socket. On Linux it is abstract and needs no writable directory."""
    if platform.system() == "Linux":
        yield f"\0identity-check-{secrets.token_hex(16)}"
        return
    with tempfile.TemporaryDirectory() as directory:
        yield str(Path(directory) / "check")


def _two_calls() -> bytes:
    """Return the HTTP/2 bytes (RFC 9113) of two calls: the first sends no message, the second does."""
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
    message = b"\0" + len(_MESSAGE).to_bytes(4, "big") + _MESSAGE
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
