"""An HTTP/2 client that can leave requests unfinished and answers unread, and that can reset streams."""

import socket
from collections.abc import Sequence
from typing import Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    Event,
    PingAckReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from tests.patience import PATIENCE
from tests.rpc.raw_http2 import Answer, Headers

CANCEL = 8


class SlowClient:
    """One HTTP/2 connection. Bytes are sent and read only when the test says so."""

    def __init__(self, target: str, *, reads: bool = True, source: str = "127.0.0.1") -> None:
        """Connect.

        Args:
            target: host:port of the server.
            source: the address from which the client connects.
            reads: False if the client grants no flow-control window, so that the server can send no body.
        """
        host, _, port = target.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), PATIENCE, (source, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._h2 = H2Connection(H2Configuration(validate_outbound_headers=False))
        if not reads:
            none = {SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: 0}
            self._h2.local_settings = Settings(client=True, initial_values=none)
        self._h2.initiate_connection()
        self._answers: dict[int, Answer] = {}
        self._ended: set[int] = set()
        self.closed = False
        """True if the server has closed the connection, or has asked the client to close it (GOAWAY)."""
        self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, path: str, body: bytes = b"", *, metadata: Headers = (), end: bool = False) -> int:
        """Open a stream, send a body as flow control allows, and return the id of the stream."""
        stream = self._h2.get_next_available_stream_id()
        headers = [(":method", "POST"), (":path", path), (":scheme", "http"), (":authority", "test")]
        headers += [("content-type", "application/grpc"), ("te", "trailers"), *metadata]
        self._h2.send_headers(stream, headers, end_stream=end and not body)
        self._flush()
        self.send(stream, body, end=end)
        return stream

    def send(self, stream: int, body: bytes, *, end: bool = False) -> None:
        """Send more of a body, as flow control allows. Waits for the server if the window is full."""
        while body and not self.closed and stream not in self._ended:
            room = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)
            if room:
                self._h2.send_data(stream, body[:room], end_stream=end and len(body) <= room)
                body = body[room:]
                self._flush()
            else:
                self.read()

    def cancel(self, stream: int) -> None:
        """Reset a stream."""
        self._h2.reset_stream(stream, CANCEL)
        self._flush()

    def ping(self) -> None:
        """Send a ping without waiting for the answer."""
        self._h2.ping(bytes(8))
        self._flush()

    def catch_up(self) -> None:
        """Send a ping, and read everything that the server sends up to its answer."""
        self.ping()
        while not self.closed and not any(isinstance(event, PingAckReceived) for event in self.read()):
            pass

    def acknowledge_settings(self) -> None:
        """Wait for the server's settings, which the client acknowledges when it reads them."""
        while SettingCodes.MAX_CONCURRENT_STREAMS not in self._h2.remote_settings:
            self.read()

    @property
    def window(self) -> int:
        """The initial flow-control window of a new stream in bytes, as the server has set it."""
        return self._h2.remote_settings.initial_window_size

    def ignore_limit(self) -> None:
        """Wait for the server's settings, and ignore its limit on concurrent streams from now on."""
        self.acknowledge_settings()
        self._h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 2**31 - 1
        self._h2.remote_settings.acknowledge()

    def answer(self, stream: int) -> Answer:
        """Wait until the stream or the connection has ended; return the answer as far as it has arrived."""
        while stream not in self._ended and not self.closed:
            self.read()
        return self._answers.get(stream, Answer())

    def first_ended(self, streams: Sequence[int], count: int = 1) -> list[int]:
        """Wait until `count` of these streams have ended, in whatever order; return the ended ones."""
        while sum(map(self.has_ended, streams)) < count and not self.closed:
            self.read()
        return list(filter(self.has_ended, streams))

    def has_ended(self, stream: int) -> bool:
        """Return whether the frames read so far end the stream."""
        return stream in self._ended

    def read(self) -> list[Event]:
        """Wait for bytes from the server, process them, and return the HTTP/2 events."""
        try:
            data = self._socket.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self.closed = True
            return []
        try:
            events = self._h2.receive_data(data)
        except ProtocolError:  # h2 takes nothing after GOAWAY, although the server still sends its answers
            self.closed = True
            return []
        for event in events:
            self._take(event)
        if not self.closed:
            self._flush()
        return events

    def _take(self, event: Event) -> None:
        match event:
            case ResponseReceived(stream_id=int(stream)) | TrailersReceived(stream_id=int(stream)):
                answer = self._answers.setdefault(stream, Answer())
                answer.headers |= {_text(name): _text(value) for name, value in event.headers or ()}
            case StreamEnded(stream_id=int(stream)):
                self._ended.add(stream)
            case StreamReset(stream_id=int(stream)):
                self._answers.setdefault(stream, Answer()).reset = int(event.error_code or 0)
                self._ended.add(stream)
            case ConnectionTerminated():
                self.closed = True
            case _:
                pass

    def _flush(self) -> None:
        try:
            self._socket.sendall(self._h2.data_to_send())
        except ConnectionError:
            self.closed = True


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()
