"""An HTTP/2 client (RFC 9113) that sends any headers and frames, also those that no gRPC client sends."""

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
    """The response on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reset: int | None = None
    """The HTTP/2 error code with which the server reset the stream; None if it did not."""

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
    """Send one request, whole or in pieces, on a connection of its own; return the answer.

    Args:
        target: host:port of the server.
        path: the path of the method.
        body: the bytes of the request, or the pieces in which they are sent.
        headers: headers that replace those of a gRPC call with the same names, or are added to them.
        without: the names of headers of a gRPC call to leave out.
        method: the HTTP method.
        end: True if the stream is ended after the body.
        window: the bytes of the answer that the server may send; None = the default of HTTP/2.
    """
    usual = {":method": method, ":path": path, ":scheme": "http", ":authority": target}
    usual |= {"content-type": "application/grpc", "te": "trailers"} | dict(headers)
    sent = [(name, value) for name, value in usual.items() if name not in without]
    host, _, port = target.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as sock:
        # The library must not validate or change the headers: tests send some that are forbidden.
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
    """Send a piece of the body as flow control allows; return True if the server ended the stream before."""
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
    """Receive some bytes and process them; return True if the stream or the connection has ended."""
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
