"""Clients that send gRPC calls and HTTP requests one at a time and return the answers.

A client in the process of the service would leave reference cycles of its own there, which the tests would
count. `OtherProcess` therefore calls from another process. `AsgiClient` calls an ASGI application as Envoy
does, in this process but without a gRPC client. The module asserts nothing.
"""

import asyncio
import http.client
import multiprocessing
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import grpc

from identity_service.grpc_api.asgi.wire import frame
from tests.patience import PATIENCE

_FORM: Final = "application/x-www-form-urlencoded"
_CODES: Final = {str(code.value[0]): code.name for code in grpc.StatusCode}
_PREFIX: Final = 5


@dataclass(frozen=True, kw_only=True)
class Request:
    """A gRPC call if `method` is empty, and otherwise an HTTP request."""

    path: str
    body: bytes = b""
    method: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    leaves: bool = False
    """True if the client cancels the call: a stream after its first message, any other call at once."""
    cut: bool = False
    """True if the client disconnects before the request is complete."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The status and the message of a call, or the status and the body of an HTTP response.

    The status is empty if the client left before the end.
    """

    status: str
    body: bytes = b""


class OtherProcess:
    """A client in a process of its own, for a service that listens on a port."""

    def __init__(self, target: str, http_target: str) -> None:
        self._targets = target, http_target
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))

    def ask(self, requests: Sequence[Request]) -> Sequence[Answer]:
        return self._pool.submit(_ask_all, *self._targets, requests).result(PATIENCE)

    def close(self) -> None:
        self._pool.shutdown()


def _ask_all(target: str, http_target: str, requests: Sequence[Request]) -> Sequence[Answer]:
    with grpc.insecure_channel(target) as channel:
        return [_ask_http(http_target, one) if one.method else _call(channel, one) for one in requests]


def _call(channel: grpc.Channel, request: Request) -> Answer:
    requests: Any = _without_end() if request.cut else iter([request.body])
    # All calls are made as bidirectional streams, which a server accepts for a method of any kind.
    call: Any = channel.stream_stream(request.path)(requests, timeout=PATIENCE, metadata=request.metadata)
    messages: list[bytes] = []
    try:
        if request.cut or (request.leaves and not _streams(request.path)):
            call.cancel()
        for message in call:
            messages.append(message)
            if request.leaves:
                call.cancel()
    except grpc.RpcError:
        pass
    status = "" if request.leaves or request.cut else call.code().name
    return Answer(status=status, body=b"".join(messages))


def _without_end() -> Iterator[bytes]:
    threading.Event().wait(PATIENCE)
    yield b""


def _streams(path: str) -> bool:
    return path.endswith("/Watch")


def _ask_http(target: str, request: Request) -> Answer:
    host, _, port = target.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
    try:
        connection.putrequest(request.method, request.path)
        for name, value in (("content-type", _FORM), ("content-length", str(len(request.body)))):
            connection.putheader(name, value)
        connection.endheaders(request.body[:-1] if request.cut else request.body)
        if request.cut:
            return Answer(status="")
        response = connection.getresponse()
        return Answer(status=str(response.status), body=response.read())
    finally:
        connection.close()


class AsgiClient:
    """Calls an ASGI application as a server with one event loop would."""

    def __init__(self, app: Callable[[Any, Any, Any], Awaitable[None]], http_target: str) -> None:
        self._app = app
        self._http_port = int(http_target.rpartition(":")[2])
        self._runner = asyncio.Runner()

    def ask(self, requests: Sequence[Request]) -> Sequence[Answer]:
        return self._runner.run(self._ask_all(requests))

    def close(self) -> None:
        self._runner.close()

    async def _ask_all(self, requests: Sequence[Request]) -> Sequence[Answer]:
        return [await self._ask(request) for request in requests]

    async def _ask(self, request: Request) -> Answer:
        body = request.body if request.method else frame(request.body)
        if request.cut:
            body = body[:-1]
        parts = [{"type": "http.request", "body": body, "more_body": request.cut}]
        events: list[Any] = []
        has_message = asyncio.Event()

        async def receive() -> Any:
            if parts:
                return parts.pop()
            if request.leaves and _streams(request.path):
                await has_message.wait()
            if request.leaves or request.cut:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(event: Any) -> None:
            events.append(event)
            if event.get("body"):
                has_message.set()

        await self._app(self._scope(request), receive, send)
        fields = {name: value for event in events for name, value in event.get("headers", ())}
        whole = b"".join(event.get("body", b"") for event in events)
        if request.leaves or request.cut:
            return Answer(status="")
        if request.method:
            return Answer(status=str(events[0]["status"]), body=whole)
        return Answer(status=_CODES[fields[b"grpc-status"].decode()], body=whole[_PREFIX:])

    def _scope(self, request: Request) -> dict[str, Any]:
        fields = {"content-type": _FORM} if request.method else {"te": "trailers"}
        return {
            "type": "http",
            "method": request.method or "POST",
            "path": request.path,
            "raw_path": request.path.encode(),
            "query_string": b"",
            "scheme": "http",
            "http_version": "1.1" if request.method else "2",
            "headers": [
                (name.encode(), value.encode()) for name, value in (*fields.items(), *request.metadata)
            ],
            "client": ("127.0.0.1", 4711),
            "server": ("127.0.0.1", self._http_port if request.method else 50051),
            "state": {},
        }
