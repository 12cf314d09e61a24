"""The ASGI application of the HTTP API: routes, limits, threads and the log line of every request.

The same application runs behind uvicorn (`listener.py`) and inside Envoy.
"""

import asyncio
import contextvars
import threading
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope

from identity_service.domain.errors import (
    IdentityError,
    ServerBusyError,
    ShuttingDownError,
)
from identity_service.http_api.exchange import Event, Exchange, Send, to_message, to_response
from identity_service.http_api.messages import Endpoint, HttpRequest, HttpResponse
from identity_service.http_api.refusals import refusal, refusal_of
from identity_service.telemetry.call_ids import trace_fields
from identity_service.telemetry.counters import DurationsByLabels
from identity_service.transport.limits import Limits

MAX_BODY_BYTES: Final = 64 * 1024
MAX_HEADER_BYTES: Final = 32 * 1024
_FIRST_ERROR: Final = 400
_NOT_FOUND: Final = 404
_METHOD_NOT_ALLOWED: Final = 405
_TOO_LARGE: Final = 413
_LONGEST_METHOD: Final = 16
"""Characters of a method that are logged, since a client may invent one."""
KNOWN_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
"""The methods that have a label of their own; any other may be invented by a client."""
_OTHER: Final = "other"
"""The label of what a client may invent: a method or a path that the API does not have."""
_EXCHANGE: Final = "identity.exchange"
"""The key of the `Exchange` in the scope of a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRoute:
    """One path of the API."""

    path: str
    methods: tuple[str, ...]
    """GET includes HEAD."""
    endpoint: Endpoint
    is_instant: bool = False
    """True if the endpoint never waits, so that it runs on the event loop.

    It then answers while all threads are busy, and while the process stops. Requests that succeed are logged
    at level debug only.
    """


class HttpApp:
    """An ASGI application that serves the routes, and bounds what its clients hold open."""

    def __init__(self, routes: Sequence[HttpRoute], pool: Executor, limits: Limits) -> None:
        """Create the application.

        Args:
            routes: the endpoints; for other paths the answer is 404, for other methods 405.
            pool: the threads that run endpoints which may wait.
            limits: bound the requests of all APIs of this process together.
        """
        self._app = Starlette(
            routes=[Route(r.path, _RouteApp(self, r), methods=r.methods) for r in routes],
            exception_handlers={HTTPException: _refuse_unrouted},
        )
        self._app.router.redirect_slashes = False  # it would redirect to the host that the client names
        self.paths = frozenset(route.path for route in routes)
        """The paths of the routes."""
        self._pool = pool
        self._limits = limits
        self._request_timeout = limits.config.request_timeout.total_seconds()
        self.durations = DurationsByLabels("method", "route", "status")
        """The requests that have ended."""
        self._log: Any = structlog.get_logger("identity.http")
        # A set, not a counter: an ASGI server may have several event loops, each in its own thread.
        self._open: set[Exchange] = set()
        self._ended = threading.Condition()
        self._draining = self._stopped = False

    async def __call__(
        self, scope: Mapping[str, Any], receive: Callable[[], Awaitable[Event]], send: Send
    ) -> None:
        """Serve one request."""
        headers = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        with structlog.contextvars.bound_contextvars(**trace_fields(headers)):
            await self._serve(scope, receive, send)

    async def _serve(
        self, scope: Mapping[str, Any], receive: Callable[[], Awaitable[Event]], send: Send
    ) -> None:
        exchange = Exchange(scope, send, self._limits.peers)
        try:
            self._limits.calls.acquire(exchange.address)
        except ServerBusyError as error:
            await self._refuse_in_turn(error, exchange)
            self._count(scope["method"], exchange)
            return
        self._open.add(exchange)
        try:
            if exchange.header_bytes > MAX_HEADER_BYTES:
                exchange.closes = True
                await _send(refusal(431, f"the headers are longer than {MAX_HEADER_BYTES} bytes"), exchange)
            elif exchange.has_two_lengths:
                exchange.closes = True
                await _send(refusal(400, "send Content-Length or Transfer-Encoding, not both"), exchange)
            else:
                await self._app({**scope, _EXCHANGE: exchange}, receive, exchange.send)
        finally:
            self._limits.calls.release(exchange.address)
            self._open.discard(exchange)
            if self._draining:
                with self._ended:
                    self._ended.notify_all()
        if exchange.refused is not None:  # only after `release`: the refusal may wait for its turn
            await self._refuse_in_turn(exchange.refused, exchange)
        self._count(scope["method"], exchange)
        self._log_request(scope["method"], exchange)

    def begin_drain(self) -> None:
        """Ask the clients to close their connections, since the process stops."""
        self._draining = True

    def drain(self, grace: float) -> bool:
        """Wait at most `grace` seconds until no request is in progress; return whether that was so.

        Afterwards, requests whose endpoint may wait are refused. Must not be called from an event loop.
        """
        self.begin_drain()
        with self._ended:
            done = self._ended.wait_for(lambda: not self._open, grace)
        self._stopped = True
        return done

    async def answer(self, route: HttpRoute, request: Request, exchange: Exchange) -> HttpResponse:
        """Return the answer to a request for this route, whatever happens.

        Raises ServerBusyError if the request is refused before it has arrived.
        """
        try:
            body = await self._read(request, exchange)
            answer = await self._run(route, to_message(request, body, exchange))
            exchange.closes = self._draining
        except ServerBusyError:
            raise
        except HTTPException as error:
            return refusal(error.status_code, f"the body is longer than {MAX_BODY_BYTES} bytes")
        except ClientDisconnect:
            return refusal(400, "the body is incomplete")
        except IdentityError as error:
            exchange.reason = error.reason
            return refusal_of(error)
        except Exception as error:  # noqa: BLE001  # an error of an endpoint must not end other requests
            self.log_bug(error, exchange)
            return refusal_of(error)
        return answer

    def log_bug(self, error: Exception, exchange: Exchange) -> None:
        """Log the place of an unexpected exception; its text may contain a value of the request."""
        frames = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        self._log.error(
            "http_bug",
            path=exchange.path,
            request_id=exchange.request_id,
            error=type(error).__name__,
            frames=frames[-8:],
        )

    async def _read(self, request: Request, exchange: Exchange) -> bytes:
        """Return the body.

        Raises:
            ClientDisconnect: the client has disconnected.
            HTTPException: the body is too long.
            RequestTimeoutError: the body has not arrived in time.
            ServerBusyError: too many requests have not arrived completely.
        """
        limits, address = self._limits, exchange.address
        beyond = limits.receives.acquire(address)
        try:
            # Not `asyncio.timeout`: an ASGI server may still complete what it would cancel.
            reading = asyncio.ensure_future(_body(request))
            timeout = limits.receive_grace if beyond else self._request_timeout
            if (await asyncio.wait({reading}, timeout=timeout))[0]:
                try:
                    return reading.result()
                finally:
                    del reading  # otherwise the error and this frame would form a cycle, which keeps the body
        finally:
            limits.receives.release(address)
        reading.add_done_callback(_discard_outcome)
        exchange.closes = True
        raise limits.late_request(address, beyond=beyond)

    async def _run(self, route: HttpRoute, message: HttpRequest) -> HttpResponse:
        """Return the answer of the endpoint. Raises what it raises, ShuttingDownError, NotReadyError."""
        if route.is_instant:
            return route.endpoint(message)
        if self._stopped:
            raise ShuttingDownError("this process is stopping; reconnect")
        # Each request has its own contextvars: values bound for log lines must not leak.
        run = contextvars.copy_context().run
        try:
            future = asyncio.get_running_loop().run_in_executor(
                self._pool, run, _in_thread, route.endpoint, message
            )
        except RuntimeError as error:
            raise ShuttingDownError("this process is stopping; reconnect") from error
        await asyncio.wait({future})
        if future.cancelled():  # the pool was shut down
            raise ShuttingDownError("this process is stopping; reconnect")
        try:
            return future.result()
        finally:
            del future  # as in `_read`

    async def _refuse_in_turn(self, error: ServerBusyError, exchange: Exchange) -> None:
        """Refuse a request that is not counted, when its turn comes (docs/limits.md)."""
        if delay := self._limits.seconds_until_refused(error):
            await asyncio.sleep(delay)
        exchange.reason, exchange.closes = error.reason, True
        await _send(refusal_of(error), exchange)

    def _count(self, method: str, exchange: Exchange) -> None:
        """Count a request; the status "none" stands for a client that has left before the answer."""
        counted = method if method in KNOWN_METHODS else _OTHER
        status = "none" if exchange.status is None else str(exchange.status)
        self.durations[counted, exchange.path or _OTHER, status].add(exchange.milliseconds / 1000)

    def _log_request(self, method: str, exchange: Exchange) -> None:
        """Log a request, without what its client chose: a path or query may hold a token."""
        failed = exchange.status is None or exchange.status >= _FIRST_ERROR
        log = self._log.info if failed or not exchange.is_quiet else self._log.debug
        more = {"reason": exchange.reason} if exchange.reason else {}
        log(
            "http",
            method=method[:_LONGEST_METHOD],
            path=exchange.path,
            status=exchange.status,
            request_id=exchange.request_id,
            ms=exchange.milliseconds,
            **more,
        )


class _RouteApp:
    """The ASGI application of one route."""

    def __init__(self, app: HttpApp, route: HttpRoute) -> None:
        self._app = app
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; one that is refused before it has arrived is left to `HttpApp`."""
        if scope["path"] != self._route.path:  # Starlette ignores a line break at the end of a path
            raise HTTPException(_NOT_FOUND)
        exchange: Exchange = scope[_EXCHANGE]
        exchange.path, exchange.is_quiet = self._route.path, self._route.is_instant
        try:
            answer = await self._app.answer(self._route, Request(scope, receive), exchange)
            response = to_response(answer)
        except ServerBusyError as error:
            exchange.refused = error
            return
        except ValueError as error:
            self._app.log_bug(error, exchange)
            response = to_response(refusal_of(error))
        await response(scope, receive, send)


def _in_thread(endpoint: Endpoint, message: HttpRequest) -> HttpResponse:
    structlog.contextvars.bind_contextvars(request_id=message.origin.request_id)
    return endpoint(message)


def _discard_outcome(future: "asyncio.Future[bytes]") -> None:
    """Read and discard the outcome of a future without a waiter, so that asyncio logs no unhandled error."""
    if not future.cancelled():
        future.exception()


async def _body(request: Request) -> bytes:
    """Return the body. Raises HTTPException if it is too long, ClientDisconnect."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(_TOO_LARGE)
    return bytes(body)


async def _refuse_unrouted(_request: Request, error: Exception) -> Response:
    """Answer a request that reaches no endpoint: 404, or 405 with the methods of the path."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status != _METHOD_NOT_ALLOWED or not isinstance(error, HTTPException):
        return to_response(refusal(status, "there is no such resource"))
    allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
    return to_response(refusal(status, f"the resource has the methods {allowed}", ("Allow", allowed)))


async def _send(answer: HttpResponse, exchange: Exchange) -> None:
    """Send an answer without a route."""
    response = to_response(answer)
    await exchange.send(
        {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
    )
    await exchange.send({"type": "http.response.body", "body": response.body})
