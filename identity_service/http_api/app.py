"""The ASGI application of the HTTP API: routes, limits, threads and the log line of every request.

The same application runs behind uvicorn (`listener.py`) and inside Envoy.
"""

import asyncio
import contextvars
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final

import structlog

from identity_service.domain.errors import IdentityError, ServerBusyError, ShuttingDownError
from identity_service.http_api.exchange import Exchange, to_message
from identity_service.http_api.messages import Endpoint, HttpRequest, HttpResponse
from identity_service.http_api.refusals import log_bug, refusal, refusal_of
from identity_service.telemetry.call_ids import trace_fields
from identity_service.telemetry.counters import DurationsByLabels
from identity_service.transport.asgi import Receive, Send, within
from identity_service.transport.limits import Limits

MAX_BODY_BYTES: Final = 64 * 1024
MAX_HEADER_BYTES: Final = 32 * 1024
_FIRST_ERROR: Final = 400
_LONGEST_METHOD: Final = 16
"""Characters of a method that are logged, since a client may invent one."""
KNOWN_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
"""The methods that have a label of their own; any other may be invented by a client."""
_OTHER: Final = "other"
"""The label of what a client may invent: a method or a path that the API does not have."""


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

    @property
    def allowed(self) -> Sequence[str]:
        """Return the methods of requests that it serves, in alphabetical order."""
        return sorted({*self.methods, "HEAD"} if "GET" in self.methods else self.methods)


class HttpApp:
    """An ASGI application that serves the routes, and bounds what its clients hold open."""

    def __init__(self, routes: Sequence[HttpRoute], pool: Executor, limits: Limits) -> None:
        """Create the application.

        Args:
            routes: the endpoints; for other paths the answer is 404, for other methods 405.
            pool: the threads that run endpoints which may wait.
            limits: bound the requests of all APIs of this process together.
        """
        self._routes = {route.path: route for route in routes}
        self.paths = frozenset(self._routes)
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

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        exchange = Exchange(scope, send, self._limits.peers)
        with structlog.contextvars.bound_contextvars(**trace_fields(exchange.headers)):
            await self._serve(scope, receive, exchange)

    async def _serve(self, scope: Mapping[str, Any], receive: Receive, exchange: Exchange) -> None:
        try:
            self._limits.calls.acquire(exchange.address)
        except ServerBusyError as error:
            await self._refuse_in_turn(error, exchange)
            self._count(scope["method"], exchange)
            return
        self._open.add(exchange)
        refused: ServerBusyError | None = None
        try:
            await exchange.send(await self._answer(scope, receive, exchange))
        except ServerBusyError as error:
            refused = error.with_traceback(None)  # otherwise this frame and the error would form a cycle
        finally:
            self._limits.calls.release(exchange.address)
            self._open.discard(exchange)
            if self._draining:
                with self._ended:
                    self._ended.notify_all()
        if refused is not None:  # only after `release`: the refusal may wait for its turn
            await self._refuse_in_turn(refused, exchange)
        self._count(scope["method"], exchange)
        self._log_request(scope["method"], exchange)

    def begin_drain(self) -> None:
        """Ask the clients to close their connections, since the process stops."""
        self._draining = True

    def drain(self, grace: float) -> bool:
        """Wait at most `grace` seconds until no request is in progress; return whether all have ended.

        Afterwards, requests whose endpoint may wait are refused. Must not be called from an event loop.
        """
        self.begin_drain()
        with self._ended:
            done = self._ended.wait_for(lambda: not self._open, grace)
        self._stopped = True
        return done

    async def _answer(self, scope: Mapping[str, Any], receive: Receive, exchange: Exchange) -> HttpResponse:
        """Return the answer to a request, whatever happens.

        Raises ServerBusyError if the request is refused before it has arrived.
        """
        if exchange.header_bytes > MAX_HEADER_BYTES:
            exchange.closes = True
            return refusal(431, f"the headers are longer than {MAX_HEADER_BYTES} bytes, counted as by HTTP/2")
        if exchange.has_two_lengths:
            exchange.closes = True
            return refusal(400, "send Content-Length or Transfer-Encoding, not both")
        # No path of the API needs percent-encoding. A proxy that keeps clients from some of them may compare
        # paths as they were sent, and would let one through in disguise.
        is_encoded = b"%" in (scope.get("raw_path") or b"").partition(b"?")[0]
        route = None if is_encoded else self._routes.get(scope["path"])
        if route is None:
            return refusal(404, "there is no such resource")
        if scope["method"] not in route.allowed:
            allowed = ", ".join(route.allowed)
            return refusal(405, f"the resource has the methods {allowed}", ("Allow", allowed))
        exchange.path, exchange.is_quiet = route.path, route.is_instant
        try:
            body = await self._read(receive, exchange)
            answer = await self._run(route, to_message(scope, body, exchange))
        except ServerBusyError:
            raise
        except _BodyRefusedError as error:
            return refusal(error.status, str(error))
        except IdentityError as error:
            exchange.reason = error.reason
            return refusal_of(error)
        except Exception as error:  # noqa: BLE001  # an error of an endpoint must not end other requests
            log_bug(error, exchange.path, exchange.request_id)
            return refusal_of(error)
        exchange.closes = self._draining
        return answer

    async def _read(self, receive: Receive, exchange: Exchange) -> bytes:
        """Return the body.

        Raises:
            RequestTimeoutError: the body has not arrived in time.
            ServerBusyError: too many requests have not arrived completely.
            _BodyRefusedError: the body is incomplete or too long.
        """
        limits, address = self._limits, exchange.address
        beyond = limits.receives.acquire(address)
        try:
            return await within(_body(receive), limits.receive_grace if beyond else self._request_timeout)
        except TimeoutError:
            exchange.closes = True
        finally:
            limits.receives.release(address)
        raise limits.late_request(address, beyond=beyond)

    async def _run(self, route: HttpRoute, message: HttpRequest) -> HttpResponse:
        """Return the answer of the endpoint. Raises what it raises, ShuttingDownError, NotReadyError."""
        if route.is_instant:
            return route.endpoint(message)
        if self._stopped:
            raise ShuttingDownError()
        # Each request has its own contextvars: values bound for log lines must not leak.
        run = contextvars.copy_context().run
        try:
            future = asyncio.get_running_loop().run_in_executor(
                self._pool, run, _in_thread, route.endpoint, message
            )
        except RuntimeError as error:
            raise ShuttingDownError() from error
        await asyncio.wait({future})
        if future.cancelled():  # the pool was shut down
            raise ShuttingDownError()
        try:
            return future.result()
        finally:
            del future  # otherwise an error and this frame would form a cycle, which keeps the request

    async def _refuse_in_turn(self, error: ServerBusyError, exchange: Exchange) -> None:
        """Refuse a request that exceeds a limit, when its turn comes (docs/limits.md)."""
        if delay := self._limits.seconds_until_refused(error):
            await asyncio.sleep(delay)
        exchange.reason, exchange.closes = error.reason, True
        await exchange.send(refusal_of(error))

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


class _BodyRefusedError(Exception):
    """The body of a request is not accepted; `status` is the one of the answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def _in_thread(endpoint: Endpoint, message: HttpRequest) -> HttpResponse:
    structlog.contextvars.bind_contextvars(request_id=message.origin.request_id)
    return endpoint(message)


async def _body(receive: Receive) -> bytes:
    """Return the body. Raises _BodyRefusedError if it is too long, or incomplete."""
    body, more = bytearray(), True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise _BodyRefusedError(400, "the body is incomplete")
        body += event.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _BodyRefusedError(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
        more = event.get("more_body", False)
    return bytes(body)
