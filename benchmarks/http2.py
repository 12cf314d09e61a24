"""The part of HTTP/2 (RFC 9113) that a load of unary gRPC calls needs: frames, flow control, a connection.

The client spends so little on a call that one core of load can saturate a server. It does not decode header
fields: a failed call is recognised because it has no message.
"""

import socket
import struct
from collections import deque
from typing import Final

from benchmarks.processes import BenchmarkError

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
_INITIAL_WINDOW_SETTING: Final = 4
_LARGEST_WINDOW: Final = 2**31 - 1
_DEFAULT_WINDOW: Final = 65_535
_LARGEST_FRAME: Final = 16_384
_FRAME_HEADER: Final = struct.Struct(">HBBBI")
_MESSAGE_PREFIX: Final = 5
_READ: Final = 1 << 18


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return one frame (RFC 9113, section 4.1)."""
    return _FRAME_HEADER.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def request_fields(path: str, authority: str) -> bytes:
    """Return the header fields of a gRPC call, without Huffman codes and dynamic table (RFC 7541)."""

    def text(value: str) -> bytes:
        if len(value) > 126:
            raise BenchmarkError(f"too long for a header field of the load: {value}")
        return bytes([len(value)]) + value.encode()

    return b"".join(
        (
            b"\x83\x86",  # :method POST, :scheme http
            b"\x04" + text(path),
            b"\x01" + text(authority),
            b"\x0f\x10" + text("application/grpc"),  # content-type
            b"\x00" + text("te") + text("trailers"),
        )
    )


class Connection:
    """A connection that makes calls of one method, many at a time."""

    def __init__(self, target: str, path: str, *, streams: int) -> None:
        """Connect; at most `streams` calls are in flight, and further ones wait here."""
        host, _, port = target.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        settings = struct.pack(">HI", _INITIAL_WINDOW_SETTING, _LARGEST_WINDOW)
        self._out = [PREFACE, frame(SETTINGS, 0, 0, settings), _window(_LARGEST_WINDOW - _DEFAULT_WINDOW)]
        self._fields = request_fields(path, target)
        self._streams = streams
        self._backlog: deque[tuple[int, bytes]] = deque()
        self._window = _DEFAULT_WINDOW
        self._next = 1
        self._rest = b""
        self._answers: dict[int, bytes] = {}
        self._unacknowledged = 0

    def fileno(self) -> int:
        """Return the file descriptor, for `select`."""
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def call(self, message: bytes) -> int:
        """Begin a call, and return its number. The next `flush` that has room sends it."""
        body = struct.pack(">?I", False, len(message)) + message  # noqa: FBT003  # the flag "compressed"
        if len(body) > _LARGEST_FRAME:
            raise BenchmarkError("a request of the load must fit one frame")
        stream, self._next = self._next, self._next + 2
        self._backlog.append((stream, body))
        return stream

    def flush(self) -> None:
        """Send as much as flow control and the number of streams allow."""
        backlog, out = self._backlog, self._out
        while backlog and len(self._answers) < self._streams and len(backlog[0][1]) <= self._window:
            stream, body = backlog.popleft()
            self._window -= len(body)
            self._answers[stream] = b""
            out.append(frame(HEADERS, END_HEADERS, stream, self._fields))
            out.append(frame(DATA, END_STREAM, stream, body))
        if out:
            self._socket.sendall(b"".join(out))
            out.clear()

    def receive(self) -> list[tuple[int, bytes | None]]:
        """Read once; return the calls that ended, with their answers, or None for a call that failed."""
        read = self._socket.recv(_READ)
        if not read:
            raise BenchmarkError("the server closed the connection")
        self._unacknowledged += len(read)
        if self._unacknowledged > _LARGEST_WINDOW // 2:
            self._out.append(_window(self._unacknowledged))
            self._unacknowledged = 0
        data, at, done = self._rest + read, 0, list[tuple[int, bytes | None]]()
        while len(data) - at >= _FRAME_HEADER.size:
            high, low, kind, flags, stream = _FRAME_HEADER.unpack_from(data, at)
            end = at + _FRAME_HEADER.size + (high << 8 | low)
            if end > len(data):
                break
            self._take(kind, flags, stream, data[at + _FRAME_HEADER.size : end], done)
            at = end
        self._rest = data[at:]
        return done

    def _take(
        self, kind: int, flags: int, stream: int, payload: bytes, done: list[tuple[int, bytes | None]]
    ) -> None:
        if kind == DATA:
            if flags & PADDED:
                raise BenchmarkError("the server pads its frames, which the load does not read")
            self._answers[stream] += payload
        elif kind == WINDOW_UPDATE:
            self._window += 0 if stream else int.from_bytes(payload)
        elif kind in (SETTINGS, PING) and not flags & ACK:
            self._out.append(frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind == GOAWAY:
            raise BenchmarkError("the server told the load to go away")
        if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
            done.append((stream, _message(self._answers.pop(stream))))


def _window(more: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", more))


def _message(body: bytes) -> bytes | None:
    """Return the message in the body of an answer (Length-Prefixed-Message), or None if there is none."""
    if len(body) < _MESSAGE_PREFIX or int.from_bytes(body[1:5]) != len(body) - _MESSAGE_PREFIX:
        return None
    return body[_MESSAGE_PREFIX:]
