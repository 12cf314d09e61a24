"""Functions that encode HTTP/2 frames and gRPC header fields (RFC 9113, RFC 7541); no I/O."""

import gzip
import struct
from collections.abc import Mapping, Sequence
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY: Final = 0x20
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
CANCEL: Final = 8
DEFAULT_WINDOW: Final = 65_535
LARGEST_WINDOW: Final = 2**31 - 1
LARGEST_FRAME: Final = 16_384
"""Maximum payload in bytes that every HTTP/2 peer must accept in one frame."""
HEADER: Final = struct.Struct(">HBBBI")
_SETTING: Final = struct.Struct(">HI")
_LARGEST_TEXT: Final = 126


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame (RFC 9113 section 4.1)."""
    return HEADER.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def settings(values: Mapping[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(key, value) for key, value in values.items()))


def settings_in(payload: bytes) -> dict[int, int]:
    """Return the settings in the payload of a SETTINGS frame."""
    return dict(_SETTING.iter_unpack(payload))


def window_update(stream: int, more: int) -> bytes:
    """Return a WINDOW_UPDATE frame; stream 0 stands for the whole connection."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", more))


def reset(stream: int) -> bytes:
    """Return an RST_STREAM frame with the error code CANCEL."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))


def request_fields(path: str, authority: str, more: Sequence[tuple[str, str]] = ()) -> bytes:
    """Return the header block of a gRPC call, without Huffman codes and without the dynamic table."""
    return b"".join(
        (
            b"\x83\x86",  # :method POST, :scheme http
            b"\x04" + _text(path),
            b"\x01" + _text(authority),
            b"\x0f\x10" + _text("application/grpc"),  # content-type
            *(b"\x00" + _text(name) + _text(value) for name, value in (("te", "trailers"), *more)),
        )
    )


def message(data: bytes, *, compressed: bool = False, length: int | None = None) -> bytes:
    """Return a gRPC message with its prefix; `length` puts a false length into the prefix."""
    return struct.pack(">?I", compressed, len(data) if length is None else length) + data


def compressed_zeros(count: int) -> bytes:
    """Return a gRPC message that gunzip expands to this many zero bytes."""
    return message(gzip.compress(bytes(count)), compressed=True)


def without_padding(kind: int, flags: int, payload: bytes) -> bytes:
    """Return the payload of a DATA or HEADERS frame without its padding and priority fields."""
    if flags & PADDED:
        payload = payload[1 : len(payload) - payload[0]]
    return payload[5:] if kind == HEADERS and flags & PRIORITY else payload


def _text(value: str) -> bytes:
    if len(value) > _LARGEST_TEXT:
        raise ValueError(f"too long for a header field without a multi-byte length: {value}")
    return bytes([len(value)]) + value.encode()
