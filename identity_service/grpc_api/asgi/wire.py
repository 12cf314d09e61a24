"""gRPC over HTTP/2 as text and bytes: frames, timeouts, metadata, status. Does no I/O.

The rules are those of "gRPC over HTTP2" (PROTOCOL-HTTP2.md of grpc); where they leave a choice, the one that
the core of gRPC takes.
"""

import base64
import binascii
import math
import re
import zlib
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import quote

import grpc

Headers = Sequence[tuple[bytes, bytes]]
Metadata = tuple[tuple[str, str | bytes], ...]

PREFIX_BYTES: Final = 5
ENCODINGS: Final = {b"identity": 0, b"gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}
"""What messages may be compressed with → the form of zlib that opens it."""
ACCEPTED: Final = b", ".join(ENCODINGS)

_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_NOT_METADATA: Final = frozenset(
    {b"te", b"host", b"content-type", b"content-length", b"x-forwarded-client-cert"}
)
_PLAIN: Final = "".join(chr(c) for c in range(0x20, 0x7F) if c != 0x25)


class WireError(Exception):
    """What came is no gRPC, or more than is taken; `code` says which."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def frame(message: bytes) -> bytes:
    """Length-Prefixed-Message, not compressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


class Unframer:
    """Takes bytes as they come, gives whole messages. Holds no more than one message and one piece."""

    def __init__(self, max_bytes: int, window: int) -> None:
        """`max_bytes` = of one message, opened; `window` = one of the values of `ENCODINGS`."""
        self._max_bytes = max_bytes
        self._window = window
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> None:
        self._buffer += piece

    def next(self) -> bytes | None:
        """The next message, once it is all there.

        Raises WireError: RESOURCE_EXHAUSTED where it is too long, INTERNAL where it cannot be opened.
        """
        buffer = self._buffer
        if len(buffer) < PREFIX_BYTES:
            return None
        length = int.from_bytes(buffer[1:PREFIX_BYTES], "big")
        if length > self._max_bytes:
            raise _too_long(length, self._max_bytes)
        if len(buffer) < PREFIX_BYTES + length:
            return None
        compressed = buffer[0] & 1
        message = bytes(buffer[PREFIX_BYTES : PREFIX_BYTES + length])
        del buffer[: PREFIX_BYTES + length]
        if compressed == 0:
            return message
        return self._opened(message)

    def _opened(self, message: bytes) -> bytes:
        if not self._window:
            raise WireError(grpc.StatusCode.INTERNAL, "a compressed message without grpc-encoding")
        opener = zlib.decompressobj(self._window)
        try:
            opened = opener.decompress(message, self._max_bytes + 1)
        except zlib.error:
            raise WireError(grpc.StatusCode.INTERNAL, "the message cannot be decompressed") from None
        if len(opened) > self._max_bytes:
            raise _too_long(len(opened), self._max_bytes)
        if not opener.eof:
            raise WireError(grpc.StatusCode.INTERNAL, "the message cannot be decompressed")
        return opened


def _too_long(length: int, limit: int) -> WireError:
    return WireError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"the message is longer than the limit ({length} vs. {limit} bytes)",
    )


def window_of(encoding: bytes) -> int:
    """How a header grpc-encoding has its messages opened. Raises WireError: nobody here can."""
    try:
        return ENCODINGS[encoding]
    except KeyError:
        raise WireError(
            grpc.StatusCode.UNIMPLEMENTED, "messages may be compressed by gzip or deflate only"
        ) from None


def timeout_of(value: bytes) -> float:
    """Seconds of a header grpc-timeout, to the next millisecond. Raises WireError where it cannot be read."""
    found = _TIMEOUT.fullmatch(value)
    if found is None:
        raise WireError(grpc.StatusCode.INTERNAL, "the header grpc-timeout cannot be read")
    return math.ceil(int(found[1]) * _UNITS[found[2]] * 1000) / 1000


def to_metadata(headers: Headers) -> Metadata:
    """Custom metadata of a request, neither HTTP's nor gRPC's own. What cannot be read is left out."""
    found: list[tuple[str, str | bytes]] = []
    for name, value in headers:
        if name in _NOT_METADATA or name.startswith((b"grpc-", b":")):
            continue
        if name.endswith(b"-bin"):
            found.extend((name.decode("ascii"), part) for part in _binary(value))
        elif value.isascii():
            found.append((name.decode("ascii"), value.decode("ascii")))
    return tuple(found)


def _binary(value: bytes) -> Iterable[bytes]:
    """Base64 with or without padding; several values may have been joined by commas."""
    for part in value.split(b","):
        text = part.strip()
        try:
            yield base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
        except binascii.Error:
            continue


def from_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> list[tuple[bytes, bytes]]:
    """Metadata of an answer as headers."""
    return [(name.encode("ascii"), _value(name, value)) for name, value in metadata]


def _value(name: str, value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode("ascii", "replace")
    return base64.b64encode(raw).rstrip(b"=") if name.endswith("-bin") else raw


def status_headers(
    code: grpc.StatusCode, details: str, metadata: Iterable[tuple[str, str | bytes]]
) -> list[tuple[bytes, bytes]]:
    """Status, with its message percent-encoded, and custom metadata."""
    headers = [(b"grpc-status", str(code.value[0]).encode())]
    if details:
        headers.append((b"grpc-message", quote(details, safe=_PLAIN).encode("ascii")))
    return headers + from_metadata(metadata)
