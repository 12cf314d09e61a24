"""An HTTP/2 client (RFC 9113) for any headers and frames, including some that no gRPC client sends."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import SettingCodes, Settings

from tests.patience import PATIENCE

Headers = Sequence[tuple[str, str]]


@dataclass(kw_only=True)
class Answer:
    """The response on a stream."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reset: int | None = None
    """The error code with which the stream was reset; None = it was not reset."""

    @property
    def http_status(self) -> str:
        return self.headers.get(":status", "")

    @property
    def grpc_status(self) -> str:
        return self.headers.get("grpc-status", "")


def call(
    target: str,
    path: str,
    body: bytes | Sequence[bytes],
    *,
    headers: Headers = (),
    without: Sequence[str] = (),
    method: str = "POST",
    end: bool = True,
    window: int | None = None,
) -> Answer:
    """Send one request on a new connection, in one piece or several.

    Args:
        target: host:port of the server.
        path: the path of the method.
        body: the pieces of the body.
        headers: replace gRPC's headers of the same name, or are added.
        without: the names of gRPC's headers to leave out.
        method: of HTTP.
        end: whether the request ends after the body.
        window: how many bytes of the response the server may send; None = the default.
    """
    usual = {":method": method, ":path": path, ":scheme": "http", ":authority": target}
    usual |= {"content-type": "application/grpc", "te": "trailers"} | dict(headers)
    sent = [(name, value) for name, value in usual.items() if name not in without]
    host, _, port = target.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as sock:
        # Unchanged: the test is about frames that must not be sent.
        config = H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        connection = H2Connection(config)
        if window is not None:
            changed = {SettingCodes.INITIAL_WINDOW_SIZE: window}
            connection.local_settings = Settings(client=True, initial_values=changed)
        connection.initiate_connection()
        connection.send_headers(1, sent)
        pieces = [body] if isinstance(body, bytes) else list(body)
        answer = Answer()
        sock.sendall(connection.data_to_send())
        for index, piece in enumerate(pieces):
            if _send(sock, connection, answer, piece, last=end and index == len(pieces) - 1):
                return answer
        while not _receive(sock, connection, answer):
            pass
        return answer


def _send(sock: socket.socket, connection: H2Connection, answer: Answer, piece: bytes, *, last: bool) -> bool:
    """Send a piece within the server's flow-control windows; return whether the server has answered."""
    while True:
        room = min(connection.local_flow_control_window(1), connection.max_outbound_frame_size)
        if room or not piece:
            connection.send_data(1, piece[:room], end_stream=last and len(piece) <= room)
            piece = piece[room:]
            sock.sendall(connection.data_to_send())
            if not piece:
                return False
        elif _receive(sock, connection, answer):
            return True


def _receive(sock: socket.socket, connection: H2Connection, answer: Answer) -> bool:
    """Receive once; return whether the stream has ended."""
    data = sock.recv(65536)
    if not data:
        return True
    ended = False
    for event in connection.receive_data(data):
        match event:
            case ResponseReceived() | TrailersReceived():
                answer.headers |= {_text(name): _text(value) for name, value in event.headers or ()}
            case DataReceived():
                answer.body += event.data or b""
                connection.acknowledge_received_data(event.flow_controlled_length or 0, 1)
            case StreamEnded():
                ended = True
            case StreamReset():
                answer.reset, ended = int(event.error_code or 0), True
            case _:
                pass
    sock.sendall(connection.data_to_send())
    return ended


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()
