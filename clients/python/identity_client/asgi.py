"""Protects ASGI applications, such as those of FastAPI, Starlette and Django. It imports none of them.

app.add_middleware(GuardMiddleware, verifier=verifier, policy=HttpPolicy("reports", {...}))

@app.delete("/reports/{id}", dependencies=[Depends(requires("reports.admin"))])
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from identity_client.admission import Admission, AskError, Observe
from identity_client.asgi_exchanges import App, Exchange, HttpRequest, Receive, Scope, Send, Websocket
from identity_client.asking import Asked, AsyncAsked, AsyncAsking, check_ask
from identity_client.async_calls import AsyncCalls, AsyncOpenCall
from identity_client.caller import Caller, caller, caller_or_none, current
from identity_client.http_policy import WEBSOCKET, HttpPolicy, Row, find, routes_of
from identity_client.policy import ALLOW_FOR, ASK, REFUSE, PolicyError, Requirement, public
from identity_client.refusal import RefusedError
from identity_client.verifier_core import VerifierCore

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
    policy: else the application does not start. A request without an entry is answered with 403, and one
    whose body arrives after its token was revoked or has expired is answered with 401. Responses that are
    sent in parts, such as server-sent events, and websockets end when their token is revoked or expires: the
    connection is closed, for a websocket with code 1008.
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

        Raises PolicyError if the policy says `ASK`, and there is no client for it; TypeError if `verifier` or
        `policy` is something else.
        """
        if not callable(getattr(policy, "table", None)):
            raise TypeError(f"a guard needs HttpPolicy(...) as its policy, not {type(policy)}")
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
                await self._handle(HttpRequest(scope, receive, send), scope["method"])
            case "websocket":
                await self._handle(Websocket(scope, receive, send), WEBSOCKET)
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

    async def _handle(self, exchange: Exchange, method: str) -> None:
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
        exchange.check_token = lambda: self._calls.check(call)
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
            ended_by = call.refusal  # the application raised something else because its call has ended
        finally:
            self._calls.remove(call)
            current.reset(restore)
        if ended_by is not None:
            await exchange.refuse(ended_by)

    async def _admit(self, scope: Scope, method: str) -> Caller | None:
        """Return the caller; None for a public route. Raises RefusedError."""
        path = _route_path(scope, getattr(self._app, "root_path", ""))
        try:
            requirement = self._requirement(scope, method, path)
        except Exception:  # noqa: BLE001  # whatever failed, the request is refused
            raise self._admission.policy_failed() from None
        if requirement is None:
            raise self._admission.without_entry(f"{method} {path}")
        if requirement.public:
            return None
        values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
        try:
            return self._admission.admit(requirement, values, None)
        except AskError as error:
            return await self._asking.ask(error.question)

    def _requirement(self, scope: Scope, method: str, path: str) -> Requirement | None:
        # Some frameworks take `delete` for DELETE, whose entry may ask for more than that of the path. A
        # request with the method WEBSOCKET is not a websocket.
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


def _route_path(scope: Scope, own_root: object) -> str:
    """Return the path that the routes are compared with, without the prefix of a proxy or a mount.

    `own_root` is the prefix that the application sets itself, as FastAPI does; "" = none.
    """
    path, root = str(scope["path"]), str(own_root or scope.get("root_path") or "")
    is_below = root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/")
    return path[len(root) :] if is_below else path
