"""Encodes and decodes gRPC-Web (PROTOCOL-WEB.md of grpc): base64 and trailers in the body. It does no I/O."""

import base64
import binascii
import re
from typing import Final

from identity_service.grpc_api.asgi.wire import Headers

_BINARY: Final = (b"application/grpc-web", b"application/grpc-web+proto")
_TEXT: Final = (b"application/grpc-web-text", b"application/grpc-web-text+proto")
_TRAILERS: Final = b"\x80"
"""The flag of a frame that holds trailers instead of a message."""
_SEGMENT: Final = re.compile(rb"[^=]+={0,2}")
"""Base64 up to its padding. Several segments may follow each other, each with its own padding."""
_QUANTUM: Final = 4
_MAX_PADDING: Final = 1024
"""The largest number of `=` in a body.

Clients encode a request as one segment. Segments of one byte take 13 times as much CPU: 1.1 s for 16 MB.
"""


def is_text(content_type: bytes) -> bool | None:
    """Return whether a request of gRPC-Web is base64; None if it is not gRPC-Web."""
    kind = content_type.partition(b";")[0].strip().lower()
    if kind in _TEXT:
        return True
    return False if kind in _BINARY else None


def content_type(*, text: bool) -> bytes:
    """Return the content type of a response."""
    return (_TEXT if text else _BINARY)[1]


def trailers_frame(headers: Headers) -> bytes:
    """Return the frame with the trailers, which ends the body of a response."""
    block = b"".join(b"%s: %s\r\n" % header for header in headers)
    return _TRAILERS + len(block).to_bytes(4, "big") + block


class Base64Decoder:
    """A decoder of a body that arrives in pieces. It buffers at most three characters."""

    def __init__(self) -> None:
        self._rest = b""
        self._padding = 0

    def feed(self, piece: bytes) -> bytes:
        """Return the bytes that are complete with this piece. Raises ValueError if it is not base64."""
        whole = self._rest + piece
        end = len(whole) // _QUANTUM * _QUANTUM
        ready, self._rest = whole[:end], whole[end:]
        self._padding += ready.count(b"=")
        if self._padding > _MAX_PADDING:
            raise ValueError("base64 of too many segments")
        segments = _SEGMENT.findall(ready)
        if sum(map(len, segments)) != end:
            raise ValueError("padding without base64 before it")
        try:
            return b"".join(base64.b64decode(segment, validate=True) for segment in segments)
        except binascii.Error as error:
            raise ValueError("not base64") from error

    def end(self) -> None:
        """Raise ValueError if the body has ended within four characters that belong together."""
        if self._rest:
            raise ValueError("the last base64 is incomplete")
