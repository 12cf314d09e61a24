"""An HTTP application that uses the client, on Starlette and on FastAPI, with its own server.

Its streams run until they are ended. The module asserts nothing.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from identity_client.asgi import Caller, GuardMiddleware, HttpPolicy, caller, caller_or_none, public, requires
from identity_client.policy import Access
from tests.clients.guard.site import ADMIN, AUDIENCE, READ
from tests.patience import PATIENCE, until

ENTRIES: dict[str, Access] = {
    "GET /reports/{id}": [READ],
    "DELETE /reports/{id}": [],
    "GET /changes": [READ],
    "WEBSOCKET /talk": [READ],
    "GET /health": public(),
}


class Notes:
    """The events that the application's handlers report to the tests."""

    def __init__(self) -> None:
        self.ended: queue.Queue[str] = queue.Queue()
        self.entered: queue.Queue[str] = queue.Queue()


def starlette(notes: Notes) -> Starlette:
    async def read(_: Request) -> PlainTextResponse:
        notes.entered.put("read")
        return PlainTextResponse(caller().subject)

    async def delete(_: Request) -> PlainTextResponse:
        caller().require_scope(ADMIN)
        return PlainTextResponse("deleted")

    return Starlette(
        routes=[
            Route("/reports/{id}", read),
            Route("/reports/{id}", delete, methods=["DELETE"]),
            Route("/changes", lambda _: changes(notes)),
            WebSocketRoute("/talk", lambda socket: talk(socket, notes)),
            Route("/health", health),
        ]
    )


def fastapi(notes: Notes) -> FastAPI:
    app, router = FastAPI(openapi_url=None), APIRouter(prefix="/reports")

    @router.get("/{id}")
    def read(id: str) -> Any:  # noqa: A002  # the name in the path; in a thread, since it is no coroutine
        notes.entered.put("read")
        return PlainTextResponse(caller().subject)

    @router.delete("/{id}")
    async def delete(who: Caller = Depends(requires(ADMIN))) -> Any:  # noqa: B008  # as FastAPI has it
        assert who is caller()
        return PlainTextResponse("deleted")

    app.include_router(router)
    app.add_api_route("/changes", lambda: changes(notes), methods=["GET"])

    @app.websocket("/talk")
    async def talk_here(socket: WebSocket) -> None:
        await talk(socket, notes)

    app.add_route("/health", health)
    return app


async def health(_: Request) -> PlainTextResponse:
    return PlainTextResponse(repr(caller_or_none()))


def changes(notes: Notes) -> StreamingResponse:
    """Send one server-sent event, and then wait until the response ends."""
    caller().on_ended(notes.ended.put)

    async def events() -> AsyncIterator[str]:
        yield f"data: {caller().subject}\n\n"
        await asyncio.Event().wait()

    return StreamingResponse(events(), media_type="text/event-stream")


async def talk(socket: WebSocket, notes: Notes) -> None:
    """Answer each text message with the caller's subject."""
    caller().on_ended(notes.ended.put)
    await socket.accept()
    async for _ in socket.iter_text():
        await socket.send_text(caller().subject)


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an application; yield its host:port."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", ws="websockets-sansio")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started or not thread.is_alive())
    try:
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(PATIENCE)


def guarded(make: Callable[[Notes], Any], verifier: Any, notes: Notes, **options: Any) -> Any:
    """Return the application behind a guard."""
    app = make(notes)
    policy = HttpPolicy(AUDIENCE, ENTRIES, **options)
    app.add_middleware(GuardMiddleware, verifier=verifier, policy=policy)
    return app
