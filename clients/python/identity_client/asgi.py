"""Protects ASGI applications, such as those of FastAPI, Starlette and Django. It imports none of them.

app.add_middleware(GuardMiddleware, verifier=verifier, policy=HttpPolicy("reports", {...}))

@app.delete("/reports/{id}", dependencies=[Depends(requires("reports.admin"))])
"""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

import grpc

from identity_client.admission import Admission, AskError, Observe
from identity_client.asking import Asked, AsyncAsked, AsyncAsking, check_ask
from identity_client.async_calls import AsyncCalls, AsyncOpenCall
from identity_client.caller import Caller, caller, caller_or_none, current
from identity_client.http_policy import WEBSOCKET, HttpPolicy, Row, find, routes_of
from identity_client.policy import ALLOW_FOR, ASK, REFUSE, PolicyError, Requirement, public
from identity_client.refusal import REJECTION_REASON, RETRY_AFTER, RefusedError, failed
from identity_client.verifier_core import VerifierCore
from identity_shared.token_ids import ID_SHA256

__all__ = [
    "ALLOW_FOR",
    "ASK",
    "Caller",
    "GuardMiddleware",
    "HttpPolicy",
    "PolicyError",
    "REFUSE",
    "caller",
    "caller_or_none",
    "public",
    "requires",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_log: Final = logging.getLogger("identity_client.guard")
_STATUS: Final = {
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAVAILABLE: 503,
}
_POLICY_VIOLATION: Final = 1008
"""The close code of a websocket whose token is refused (RFC 6455 section 7.4.1)."""
_HTTP_RESPONSE: Final = "websocket.http.response"
"""The ASGI extension with which the handshake of a websocket can be refused by any response."""
_NOT_IN_DESCRIPTION: Final = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")
"""The characters that no value of a challenge may contain (RFC 6750 section 3)."""


def requires(*scopes: str) -> Callable[[], Awaitable[Caller]]:
    """Return a dependency for FastAPI's `Depends`, which returns the caller if its token has the scopes.

    The route needs an entry in the policy as well. If a scope is missing, the guard answers 403.
    """

    async def require() -> Caller:
        found = caller()
        for scope in scopes:
            found.require_scope(scope)
        return found

    return require


class GuardMiddleware:
    """An ASGI middleware that lets no request through that the policy and the caller's token do not allow.

    If the routes of the application are known (Starlette, FastAPI), each of them must have an entry in the
    policy: else the application does not start. A request without an entry is answered with 403. Responses
    that are sent in parts, such as server-sent events, and websockets end when their token is revoked or
    expires: the connection is closed, for a websocket with code 1008.
    """

    def __init__(
        self,
        app: App,
        *,
        verifier: VerifierCore,
        policy: HttpPolicy,
        ask: Asked | AsyncAsked | None = None,
        observe: Observe | None = None,
    ) -> None:
        """Create the middleware.

        Args:
            app: the application that it protects.
            verifier: verifies the tokens, an `AsyncLocalVerifier` or a `LocalVerifier`; the caller closes it.
            policy: the token that each route needs.
            ask: the client that asks the service while the verifier is stale, for routes with `ASK`.
            observe: a function that counts what the guard does: it is called with `admitted` and "", with
                `refused` and the reason, and, when a token ends an open call, with `ended` and the reason. It
                runs in the thread or task of the call, so it must not block.

        Raises PolicyError if the policy says `ASK`, and there is no client for it.
        """
        check_ask(asks=policy.asks, given=ask is not None)
        self._app = app
        self._policy = policy
        self._table: list[Row] | None = None
        self._admission = Admission(verifier, observe)
        self._asking = AsyncAsking(self._admission, ask)
        self._calls = AsyncCalls(verifier, self._admission.note)

    @property
    def stale_calls(self) -> Mapping[str, int]:
        """Return how many requests found the verifier stale: `refused`, `asked` and `allowed`."""
        return self._admission.stale_calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection of the ASGI server. Raises RuntimeError for a protocol it does not know."""
        match scope["type"]:
            case "http":
                await self._handle(_Request(scope, receive, send), scope["method"])
            case "websocket":
                await self._handle(_Websocket(scope, receive, send), WEBSOCKET)
            case "lifespan":
                await self._start(scope, receive, send)
            case kind:
                raise RuntimeError(f"GuardMiddleware cannot protect the ASGI protocol {kind}")

    async def _start(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application start, unless the policy does not fit its routes."""
        try:
            routes = routes_of(self._routed(scope))
            if routes is not None:
                self._policy.check(routes)
        except PolicyError as error:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": f"GuardMiddleware: {error}"})
            return
        await self._app(scope, receive, send)

    async def _handle(self, exchange: "_Exchange", method: str) -> None:
        """Pass a request on to the application, until its token ends it."""
        try:
            found = await self._admit(exchange.scope, method)
        except RefusedError as refusal:
            await exchange.refuse(refusal)
            return
        if found is None:
            await self._app(exchange.scope, exchange.receive_from_client, exchange.send_to_client)
            return
        call = exchange.call = AsyncOpenCall(found)
        exchange.open = lambda: self._calls.add(call)
        restore = current.set(found)
        try:
            await exchange.begin()
            await self._app(exchange.scope, exchange.receive, exchange.send)
            ended_by = call.refusal
        except RefusedError as refusal:
            ended_by = refusal
        except asyncio.CancelledError:
            if not call.has_ended():
                raise
            ended_by = call.refusal
        except Exception:
            if call.refusal is None:
                raise
            ended_by = call.refusal  # the application has met the end of its call in its own way
        finally:
            self._calls.remove(call)
            current.reset(restore)
        if ended_by is not None:
            await exchange.refuse(ended_by)

    async def _admit(self, scope: Scope, method: str) -> Caller | None:
        """Return the caller; None for a public route. Raises RefusedError."""
        path = _route_path(scope, getattr(self._app, "root_path", ""))
        requirement = self._admission.require(
            lambda _: self._requirement(scope, method, path), f"{method} {path}"
        )
        if requirement.public:
            return None
        values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
        try:
            return self._admission.admit(requirement, values, bytes)
        except AskError as error:
            return await self._asking.ask(error.question)

    def _requirement(self, scope: Scope, method: str, path: str) -> Requirement | None:
        # Some frameworks take `delete` for DELETE, whose entry may ask for more than that of the path. A
        # request with the method WEBSOCKET is no websocket.
        if scope["type"] == "http" and (method != method.upper() or method == WEBSOCKET):
            return None
        # Starlette takes a path with a final line break for the path without it, Django does not.
        if path.endswith("\n"):
            return None
        return find(self._rows(scope), method, path)

    def _rows(self, scope: Scope) -> list[Row]:
        if self._table is None:
            self._table = self._policy.table(routes_of(self._routed(scope)))
        return self._table

    def _routed(self, scope: Scope) -> object:
        """Return the application with the routes, if there is one: a middleware stands for it in `scope`."""
        return self._app if hasattr(self._app, "routes") else scope.get("app")


class _Exchange:
    """One request or websocket between the client and the application."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive_from_client = receive
        self.send_to_client = send
        self.call: AsyncOpenCall | None = None
        self.open: Callable[[], object] = failed
        """Adds the call to the open ones. Raises RefusedError."""

    async def begin(self) -> None:
        """Do what comes before the application. Raises RefusedError."""

    async def receive(self) -> Message:
        """Receive a message for the application."""
        return await self.receive_from_client()

    async def send(self, message: Message) -> None:
        """Send a message of the application. Raises RefusedError after the token has ended the call."""
        raise NotImplementedError

    async def refuse(self, refusal: RefusedError) -> None:
        """Tell the client about the refusal, if that is still possible."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise the RefusedError if the token has ended the call."""
        if self.call is not None:
            self.call.check()


class _Request(_Exchange):
    """An HTTP request. It counts as open from the first part of a response that has several."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self._has_started = False
        self._is_open = False

    async def send(self, message: Message) -> None:
        self.check()
        if message["type"] == "http.response.start":
            self._has_started = True
        elif message.get("more_body") and not self._is_open and self.call is not None:
            self._is_open = True
            try:
                self.open()
            except RefusedError as refusal:
                self.call.refuse(refusal)
                raise
        await self.send_to_client(message)
        if self._is_open and self.call is not None and not message.get("more_body"):
            self.call.done = True  # what the application does now is not part of the call

    async def refuse(self, refusal: RefusedError) -> None:
        if self._has_started:
            # The response stays incomplete, so that its client does not take the part for the whole.
            _log.info("a response was cut off: %s", refusal.reason)
            return
        status, headers, body = _response(refusal)
        await self.send_to_client({"type": "http.response.start", "status": status, "headers": headers})
        await self.send_to_client({"type": "http.response.body", "body": body})


class _Websocket(_Exchange):
    """A websocket. It is open from the beginning."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self._has_connected = False
        self._was_accepted = False
        self._is_over = False

    async def begin(self) -> None:
        self.open()

    async def receive(self) -> Message:
        self.check()
        message = await self.receive_from_client()
        self._has_connected = True
        self._is_over |= message["type"] == "websocket.disconnect"
        self.check()
        return message

    async def send(self, message: Message) -> None:
        self.check()
        self._was_accepted |= message["type"] == "websocket.accept"
        self._is_over |= message["type"] not in ("websocket.accept", "websocket.send")
        await self.send_to_client(message)

    async def refuse(self, refusal: RefusedError) -> None:
        if self._is_over:
            return
        if not self._has_connected:
            await self.receive_from_client()
        status, headers, body = _response(refusal)
        if not self._was_accepted and _HTTP_RESPONSE in (self.scope.get("extensions") or {}):
            start = f"{_HTTP_RESPONSE}.start"
            await self.send_to_client({"type": start, "status": status, "headers": headers})
            await self.send_to_client({"type": f"{_HTTP_RESPONSE}.body", "body": body})
            return
        close = {"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": refusal.reason}
        await self.send_to_client(close)


def _route_path(scope: Scope, own_root: object) -> str:
    """Return the path that the routes are compared with, without the prefix of a proxy or a mount.

    `own_root` is the prefix that the application sets itself, as FastAPI does; "" = none.
    """
    path, root = str(scope["path"]), str(own_root or scope.get("root_path") or "")
    is_below = root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/")
    return path[len(root) :] if is_below else path


def _response(refusal: RefusedError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return the status, headers and body with which a request is refused."""
    body = json.dumps({"reason": refusal.reason, "detail": str(refusal)}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    challenge = _challenge(refusal)
    if challenge:
        headers["www-authenticate"] = challenge
    if refusal.code is grpc.StatusCode.UNAVAILABLE:
        headers["retry-after"] = str(int(RETRY_AFTER.total_seconds()))
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return _STATUS.get(refusal.code, 500), encoded, body


def _challenge(refusal: RefusedError) -> str:
    """Return the value of `WWW-Authenticate` (RFC 6750 section 3); empty if another token would not help."""
    items: dict[str, str] = {}
    if refusal.reason == "CALLER_SCOPE_MISSING":
        items = {"error": "insufficient_scope", "scope": " ".join(refusal.scopes)}
    elif refusal.code is not grpc.StatusCode.UNAUTHENTICATED:
        return ""
    elif REJECTION_REASON in refusal.metadata:
        items = {"error": "invalid_token"}
    if items:
        items["error_description"] = _NOT_IN_DESCRIPTION.sub("?", str(refusal))
    if ID_SHA256 in refusal.metadata:
        items[ID_SHA256] = refusal.metadata[ID_SHA256]
    values = ", ".join(f'{name}="{value}"' for name, value in items.items())
    return f"Bearer {values}".strip()
