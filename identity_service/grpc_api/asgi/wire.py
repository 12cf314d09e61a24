"""Encodes and decodes gRPC over HTTP/2: messages, timeouts, metadata and status. The module does no I/O.

The rules are those of "gRPC over HTTP2" (PROTOCOL-HTTP2.md of grpc). If the rules leave a choice, this module
behaves as gRPC's core does.
"""

import base64
import binascii
import math
import re
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias
from urllib.parse import quote

import grpc

from identity_service.grpc_api.compression import DEFLATE, GZIP, Compressed, WireError, too_long
from identity_service.transport.client_certificates import OF_ENVOY

Headers = Sequence[tuple[bytes, bytes]]
Metadata = tuple[tuple[str, str | bytes], ...]

PREFIX_BYTES: Final = 5
ENCODINGS: Final = {b"identity": 0, b"gzip": GZIP, b"deflate": DEFLATE}
"""A map from the accepted values of grpc-encoding to the `wbits` with which zlib decompresses them; 0 = not
compressed."""
ACCEPTED: Final = b", ".join(ENCODINGS)

_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_NOT_METADATA: Final = frozenset({b"te", b"host", b"content-type", b"content-length", OF_ENVOY})
_PLAIN: Final = "".join(chr(c) for c in range(0x20, 0x7F) if c != 0x25)


def frame(message: bytes) -> bytes:
    """Return the message as an uncompressed Length-Prefixed-Message."""
    return b"\0" + len(message).to_bytes(4, "big") + message


Message: TypeAlias = bytes | Compressed


def opened(message: Message) -> bytes:
    """Return a message, decompressed if it is compressed. Raises WireError as `Compressed.open` does."""
    return message.open() if isinstance(message, Compressed) else message


class Unframer:
    """A splitter of a request body into messages. It buffers at most one message and one received piece."""

    def __init__(self, max_bytes: int, window: int, enough: int | None = None) -> None:
        """Create a decoder of one request.

        Args:
            max_bytes: the longest message, decompressed.
            window: the compression of messages, a value of `ENCODINGS`.
            enough: the longest message that its method accepts. A compressed one is decompressed here, up to
                one byte more, by which the method recognises a longer one. None = compressed messages are
                returned as they are, so that a thread decompresses them.
        """
        self._max_bytes = max_bytes
        self._window = window
        self._enough = enough
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> None:
        """Add a piece of the request body."""
        self._buffer += piece

    def next(self) -> Message | None:
        """Return the next message, or None if it is not complete yet.

        Raises WireError as `Compressed.open` does.
        """
        buffer = self._buffer
        if len(buffer) < PREFIX_BYTES:
            return None
        length = int.from_bytes(buffer[1:PREFIX_BYTES], "big")
        if length > self._max_bytes:
            raise too_long(length, self._max_bytes)
        if len(buffer) < PREFIX_BYTES + length:
            return None
        is_compressed = buffer[0] & 1
        data = bytes(buffer[PREFIX_BYTES : PREFIX_BYTES + length])
        del buffer[: PREFIX_BYTES + length]
        if not is_compressed:
            return data
        message = Compressed(data=data, window=self._window, max_bytes=self._max_bytes)
        return message if self._enough is None else message.open(self._enough)


def window_of(encoding: bytes) -> int:
    """Return the value of `ENCODINGS` for a header grpc-encoding. Raises WireError if there is none."""
    try:
        return ENCODINGS[encoding]
    except KeyError:
        raise WireError(
            grpc.StatusCode.UNIMPLEMENTED, "messages may be compressed by gzip or deflate only"
        ) from None


def timeout_of(value: bytes) -> float:
    """Return the seconds of a header grpc-timeout, rounded up to 1 ms. Raises WireError if malformed."""
    found = _TIMEOUT.fullmatch(value)
    if found is None:
        raise WireError(grpc.StatusCode.INTERNAL, "the header grpc-timeout cannot be read")
    return math.ceil(int(found[1]) * _UNITS[found[2]] * 1000) / 1000


def to_metadata(headers: Headers) -> Metadata:
    """Return the custom metadata of a request, without reserved headers and malformed base64.

    In text, a byte that is not ASCII becomes U+FFFD, so that the value is malformed for its reader. If such a
    value were left out, a client could hide the rest of it, such as an address that a proxy appends.
    """
    found: list[tuple[str, str | bytes]] = []
    for name, value in headers:
        if name in _NOT_METADATA or name.startswith((b"grpc-", b":")):
            continue
        if name.endswith(b"-bin"):
            found.extend((name.decode("ascii"), part) for part in _binary(value))
        else:
            found.append((name.decode("ascii"), value.decode("ascii", "replace")))
    return tuple(found)


def _binary(value: bytes) -> Iterable[bytes]:
    """Yield the values of a binary header: base64 with or without padding, several joined by commas."""
    for part in value.split(b","):
        text = part.strip()
        try:
            yield base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
        except binascii.Error:
            continue


def from_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the metadata of a response as headers."""
    return [(name.encode("ascii"), _value(name, value)) for name, value in metadata]


def _value(name: str, value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode("ascii", "replace")
    return base64.b64encode(raw).rstrip(b"=") if name.endswith("-bin") else raw


def status_headers(
    code: grpc.StatusCode, details: str, metadata: Iterable[tuple[str, str | bytes]]
) -> list[tuple[bytes, bytes]]:
    """Return the headers of a status, with its message percent-encoded, and of custom metadata."""
    headers = [(b"grpc-status", str(code.value[0]).encode())]
    if details:
        headers.append((b"grpc-message", quote(details, safe=_PLAIN).encode("ascii")))
    return headers + from_metadata(metadata)
