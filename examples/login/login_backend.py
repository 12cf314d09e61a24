"""A backend with which people sign in from a page, and one route that needs their token.

The page gets the access token in an answer and keeps it in memory. The refresh token is in a cookie that no
script can read. README.md says why, and how to run it.
"""

import argparse
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from identity_client import (
    AsyncIdentityClient,
    IdentityError,
    InvalidArgumentError,
    LocalVerifier,
    ResourceExhaustedError,
    TokenSet,
    UnauthenticatedError,
    UnavailableError,
)
from identity_client.asgi import GuardMiddleware, HttpPolicy, caller, public
from identity_client.environment import Environment

COOKIE: Final = "__Host-refresh"
"""Browsers accept this prefix only with Secure, Path=/ and without Domain: no other host can set it."""
STATUS: Final[dict[type[IdentityError], int]] = {
    InvalidArgumentError: 400,
    UnauthenticatedError: 401,
    ResourceExhaustedError: 429,
    UnavailableError: 503,
}
"""Every other error of the service is answered with 403."""

Handler = Callable[[Request], Awaitable[Response]]


class Login:
    """The routes that hand out, renew and take back the tokens of a page of one origin."""

    def __init__(self, environment: Environment, *, origin: str, audience: str) -> None:
        """Use the service and the client that the environment names; without a client, the built-in one."""
        self._environment = environment
        self._origin = origin
        self._audience = audience
        self._client: dict[str, Any] = {}
        if environment.secret is not None:
            self._client = {"client_id": environment.client_id, "client_secret": environment.secret}

    @asynccontextmanager
    async def connected(self, _: object) -> AsyncIterator[None]:
        """Keep a connection to the service while the application runs."""
        options = self._environment.options()
        async with AsyncIdentityClient(self._environment.target, options=options) as self._identity:
            yield

    async def sign_in(self, request: Request) -> Response:
        """Begin a session with the password of a JSON body."""
        try:
            body = await request.json()
            username, password = str(body["username"]), str(body["password"])
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"error": "send JSON with username and password"}, 400)
        return tokens_of(
            await self._identity.issue_with_password(
                username, password, audiences=[self._audience], **self._client
            )
        )

    async def refresh(self, request: Request) -> Response:
        """Replace both tokens. A session that has ended leaves no cookie behind."""
        try:
            return tokens_of(await self._identity.refresh(request.cookies.get(COOKIE, ""), **self._client))
        except (UnauthenticatedError, InvalidArgumentError):
            return without_cookie(JSONResponse({"error": "sign in"}, 401))

    async def sign_out(self, request: Request) -> Response:
        """End the session, and with it every access token of it.

        If the service cannot be reached, the answer is 503 and the cookie stays, since the session goes on.
        """
        if refresh_token := request.cookies.get(COOKIE):
            await self._identity.revoke_token(refresh_token, reason="signed out")
        return without_cookie(Response(status_code=204))

    def own(self, handler: Handler) -> Handler:
        """Refuse requests from pages of other origins: browsers name the origin of each POST."""

        async def checked(request: Request) -> Response:
            if request.headers.get("origin") != self._origin:
                return JSONResponse({"error": f"only pages of {self._origin} may send this"}, 403)
            return await handler(request)

        return checked


def tokens_of(tokens: TokenSet) -> Response:
    """Answer with the access token, and set the refresh token as a cookie."""
    body = {"access_token": tokens.access_token, "expires_at": tokens.expire_time.isoformat()}
    response = JSONResponse(body, headers={"cache-control": "no-store"})
    end = tokens.refresh_expire_time or datetime.now(UTC)
    response.set_cookie(
        COOKIE,
        tokens.refresh_token,
        max_age=int((end - datetime.now(UTC)).total_seconds()),
        httponly=True,
        secure=True,
        samesite="strict",
    )
    return response


def without_cookie(response: Response) -> Response:
    """Have the browser delete the cookie."""
    response.delete_cookie(COOKIE, httponly=True, secure=True, samesite="strict")
    return response


async def explain(_: Request, error: Exception) -> Response:
    """Answer with the status and the reason of an error of the service; its text may name addresses."""
    assert isinstance(error, IdentityError)  # noqa: S101  # no other one is passed to this handler
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 403)
    wait = {"retry-after": str(ceil(error.retry_after.total_seconds()))} if error.retry_after else None
    return JSONResponse({"error": error.reason or error.code.name}, status, headers=wait)


async def me(_: Request) -> Response:
    """Return the user whose access token the request carries. The cookie is not looked at."""
    return JSONResponse({"subject": caller().subject})


def create_app(environment: Environment, verifier: LocalVerifier, *, origin: str, audience: str) -> Starlette:
    """Return the application, whose page is at this origin and whose tokens are for this audience."""
    login = Login(environment, origin=origin, audience=audience)
    posts = {"/login": login.sign_in, "/refresh": login.refresh, "/logout": login.sign_out}
    routes = [Route(path, login.own(handler), methods=["POST"]) for path, handler in posts.items()]
    app = Starlette(
        routes=[*routes, Route("/me", me)],
        lifespan=login.connected,
        exception_handlers={IdentityError: explain},
    )
    policy = HttpPolicy(audience, {**{f"POST {path}": public() for path in posts}, "GET /me": []})
    app.add_middleware(GuardMiddleware, verifier=verifier, policy=policy)
    return app


def main() -> None:
    """Serve on loopback until the process is interrupted."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--port", type=int, default=8443, help="port on 127.0.0.1")
    parser.add_argument(
        "--origin", default="https://localhost:8443", help="origin of the page, as browsers send it"
    )
    parser.add_argument("--audience", default="demo-api", help="audience of the tokens")
    parser.add_argument("--certificate", type=Path, default=Path("var/tls/server.pem"), help="PEM file")
    parser.add_argument("--key", type=Path, default=Path("var/tls/server.key"), help="PEM file")
    given = parser.parse_args()
    with LocalVerifier.from_env() as verifier:
        app = create_app(Environment.read(), verifier, origin=given.origin, audience=given.audience)
        uvicorn.run(
            app,
            host="127.0.0.1",
            port=given.port,
            log_level="warning",
            ssl_certfile=given.certificate,
            ssl_keyfile=given.key,
        )


if __name__ == "__main__":
    main()
