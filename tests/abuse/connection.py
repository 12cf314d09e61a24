"""A non-blocking HTTP/2 connection of an abuser, which opens streams and counts the answers.

The connection follows flow control and acknowledges PING and SETTINGS, so that no server closes it for a
protocol error that the abuse does not intend.
"""

import socket
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hpack import Decoder

from tests.abuse import frames
from tests.abuse.frames import frame

_READ: Final = 1 << 18
_PENDING: Final = 1 << 20
"""Size of the send buffer in bytes above which the connection adds no DATA frame to it."""
_QUIET: Final = 20
"""Number of SETTINGS acknowledgements in a row during which no data could be sent, after which the server is
assumed to accept no more data."""
_CONNECT_SECONDS: Final = 10.0


@dataclass(slots=True)
class Stream:
    """One open stream, as the abuser sees it."""

    body: bytes
    """All bytes that the abuse sends on this stream; several streams may share one body."""
    window: int
    """Number of bytes that the flow control of this stream permits the abuser to send now."""
    end: bool
    """True if the abuser half-closes the stream after the body."""
    sent: int = 0
    answered: bool = False
    """True once response headers have arrived."""
    status: str | None = None
    """The grpc-status, once it has arrived."""

    @property
    def is_sent(self) -> bool:
        """Return whether the whole body is in the send buffer or has been sent."""
        return self.sent == len(self.body)


class Connection:
    """An HTTP/2 connection from an address that the abuse chooses; only the constructor raises OSError."""

    def __init__(self, target: str, source: str, *, window: int, outcomes: Counter[str]) -> None:
        """Connect.

        Args:
            target: host:port of the server.
            source: the address to connect from.
            window: bytes that the server may send on each stream; 0 = it cannot send an answer's message.
            outcomes: counts how streams and connections end.
        """
        self.socket = connect(target, source)
        self.closed = False
        self.streams: dict[int, Stream] = {}
        """The open streams, by stream id."""
        self.most_streams = frames.LARGEST_WINDOW
        """Number of streams that the server allows at the same time; valid once `greeted` is true."""
        self.greeted = False
        """True once the server's SETTINGS frame has arrived."""
        self.unacknowledged = 1
        """Number of SETTINGS frames that the server has not acknowledged. If it is 0, the server has read
        every frame before the last SETTINGS frame."""
        self._target = target
        self._reads = window > 0
        self._outcomes = outcomes
        self._out = bytearray(frames.PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: window}))
        self._out += frames.window_update(0, frames.LARGEST_WINDOW - frames.DEFAULT_WINDOW)
        self._rest = b""
        self._window = self._initial_window = frames.DEFAULT_WINDOW
        self._next = 1
        self._decoder = Decoder()
        self._block = bytearray()
        self._unsent: dict[int, Stream] = {}
        self._fields: dict[str, bytes] = {}
        self._sent = self._sent_before = self._quiet = 0

    def fileno(self) -> int:
        """Return the file descriptor of the socket, for `select`."""
        return self.socket.fileno()

    @property
    def is_full(self) -> bool:
        """Return whether the send buffer is so large that the abuse should add no more to it."""
        return len(self._out) > _PENDING

    @property
    def wants_to_write(self) -> bool:
        return bool(self._out)

    def is_settled(self) -> bool:
        """Return whether the server has read all that was sent and accepts no more; if not, call `ask`."""
        if self._out or self.unacknowledged:
            return False
        if not self._unsent:
            return True
        self._quiet = self._quiet + 1 if self._sent == self._sent_before else 0
        self._sent_before = self._sent
        if self._quiet > _QUIET:
            return True
        self.ask()
        return False

    def open(self, path: str, body: bytes = b"", *, end: bool, more: Iterable[tuple[str, str]] = ()) -> int:
        """Open a stream, send as much of the body as flow control permits, and return the stream's id."""
        number, self._next = self._next, self._next + 2
        stream = Stream(body, self._initial_window, end)
        ends_now = frames.END_STREAM if end and not body else 0
        self._out += frame(frames.HEADERS, frames.END_HEADERS | ends_now, number, self._block_of(path, more))
        self.streams[number] = stream
        self._send_body(number, stream)
        if not stream.is_sent:
            self._unsent[number] = stream
        return number

    def append(self, number: int, data: bytes) -> None:
        """Send more data on an open stream that is not half-closed."""
        stream = self.streams[number]
        stream.body = stream.body[stream.sent :] + data
        stream.sent = 0
        self._unsent[number] = stream
        self._send_body(number, stream)

    def open_and_reset(self, path: str, body: bytes, count: int) -> None:
        """Open this many streams, each with a whole request, and reset each of them immediately."""
        block = self._block_of(path, ())
        for _ in range(count):
            number, self._next = self._next, self._next + 2
            self._out += frame(frames.HEADERS, frames.END_HEADERS, number, block)
            if body and self._window >= len(body):
                self._window -= len(body)
                self._out += frame(frames.DATA, frames.END_STREAM, number, body)
            self._out += frames.reset(number)
        self._outcomes["reset by the abuser"] += count

    def reset(self, number: int) -> None:
        """Reset an open stream."""
        self._out += frames.reset(number)
        self._end(number, "reset by the abuser")

    def ask(self) -> None:
        """Send a SETTINGS frame, whose acknowledgement shows that the server has read all frames before it.

        PING would show it as well, but servers limit the number of PING frames.
        """
        self.unacknowledged += 1
        self._out += frame(frames.SETTINGS, 0, 0)

    def raw(self, data: bytes) -> None:
        """Send these bytes, which need not be a valid frame."""
        self._out += data

    def give_up(self, outcome: str) -> None:
        """Mark the connection as closed; the crowd then closes the socket."""
        if self.closed:
            return
        self._outcomes[outcome] += 1
        for number in tuple(self.streams):
            self._end(number, "ended with its connection")
        self.closed = True

    def write(self) -> None:
        """Write as much of the send buffer as the socket accepts."""
        for number, stream in tuple(self._unsent.items()):
            self._send_body(number, stream)
        try:
            while self._out:
                del self._out[: self.socket.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self.give_up("connections that the server closed")

    def read(self) -> None:
        """Read from the socket once, and process every complete frame."""
        try:
            read = self.socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            read = b""
        if not read:
            self.give_up("connections that the server closed")
            return
        data, at = self._rest + read, 0
        while len(data) - at >= frames.HEADER.size and not self.closed:
            high, low, kind, flags, number = frames.HEADER.unpack_from(data, at)
            end = at + frames.HEADER.size + (high << 8 | low)
            if end > len(data):
                break
            self._take(kind, flags, number, data[at + frames.HEADER.size : end])
            at = end
        self._rest = data[at:]

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind in (frames.HEADERS, frames.CONTINUATION):
            self._block += frames.without_padding(kind, flags, payload)
            if flags & frames.END_HEADERS:
                self._take_fields(number)
        elif kind == frames.DATA and self._reads and payload:
            self._out += frames.window_update(0, len(payload)) + frames.window_update(number, len(payload))
        elif kind == frames.WINDOW_UPDATE:
            self._widen(number, int.from_bytes(payload))
        elif kind == frames.SETTINGS:
            self._take_settings(flags, payload)
        elif kind == frames.PING and not flags & frames.ACK:
            self._out += frame(frames.PING, frames.ACK, 0, payload)
        elif kind == frames.GOAWAY:
            self._outcomes[f"GOAWAY {int.from_bytes(payload[4:8])}"] += 1
        if kind == frames.RST_STREAM:
            self._end(number, f"RST_STREAM {int.from_bytes(payload)}")
        elif kind in (frames.DATA, frames.HEADERS) and flags & frames.END_STREAM:
            stream = self.streams.get(number)
            self._end(number, f"status {stream.status if stream else None}")

    def _take_fields(self, number: int) -> None:
        fields = dict(self._decoder.decode(bytes(self._block), raw=True))  # raw: values may not be text
        self._block.clear()
        stream = self.streams.get(number)
        if stream is None:
            return
        if not stream.answered:
            stream.answered = True
            self._outcomes["answered with headers"] += 1
        status = fields.get(b"grpc-status")
        if status is not None:
            stream.status = bytes(status).decode()

    def _take_settings(self, flags: int, payload: bytes) -> None:
        if flags & frames.ACK:
            self.unacknowledged -= 1
            return
        values = frames.settings_in(payload)
        self.greeted = True
        self.most_streams = values.get(frames.MAX_CONCURRENT_STREAMS, self.most_streams)
        window = values.get(frames.INITIAL_WINDOW_SIZE, self._initial_window)
        for stream in self.streams.values():
            stream.window += window - self._initial_window
        self._initial_window = window
        self._out += frame(frames.SETTINGS, frames.ACK, 0)

    def _widen(self, number: int, more: int) -> None:
        if number == 0:
            self._window += more
        elif number in self.streams:
            self.streams[number].window += more

    def _send_body(self, number: int, stream: Stream) -> None:
        while not self.is_full:
            room = max(0, min(self._window, stream.window, frames.LARGEST_FRAME))
            piece = stream.body[stream.sent : stream.sent + room]
            if not piece:
                break
            stream.sent += len(piece)
            self._sent += len(piece)
            stream.window -= len(piece)
            self._window -= len(piece)
            flags = frames.END_STREAM if stream.end and stream.is_sent else 0
            self._out += frame(frames.DATA, flags, number, piece)
        if stream.is_sent:
            self._unsent.pop(number, None)

    def _end(self, number: int, outcome: str) -> None:
        if self.streams.pop(number, None) is not None:
            self._unsent.pop(number, None)
            self._outcomes[outcome] += 1

    def _block_of(self, path: str, more: Iterable[tuple[str, str]]) -> bytes:
        if more:
            return frames.request_fields(path, self._target, tuple(more))
        if path not in self._fields:
            self._fields[path] = frames.request_fields(path, self._target)
        return self._fields[path]


def connect(target: str, source: str) -> socket.socket:
    """Return a non-blocking TCP connection. Raises OSError."""
    host, _, port = target.rpartition(":")
    made = socket.create_connection((host, int(port)), _CONNECT_SECONDS, (source, 0))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setblocking(False)
    return made
