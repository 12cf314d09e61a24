"""The guard of an ASGI application: it passes requests on, refuses them, or ends them with their token."""

import asyncio
import contextlib
import http.client
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import requests
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from identity_client import IdentityClient, LocalVerifier, TokenSet
from identity_client.asgi import ASK, GuardMiddleware, HttpPolicy, public
from tests.clients.guard import web
from tests.clients.guard.refusals import sha256_of
from tests.clients.guard.site import ADMIN, AUDIENCE, READ, Site, make_stale
from tests.clients.guard.web import Notes, guarded, serving
from tests.patience import PATIENCE, until
from tests.ports import reserve_port
from tests.rpc.forging import forger_of

CUT = (requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)


@dataclass(frozen=True)
class Web:
    """An application on a server, and the events that its handlers have reported."""

    place: str
    notes: Notes

    def call(self, method: str, path: str, token: str | None = None, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://{self.place}{path}"
        return requests.request(method, url, headers=headers, timeout=PATIENCE, **options)

    def talk(self, token: str | None) -> ClientConnection:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"ws://{self.place}/talk"
        return connect(url, additional_headers=headers, open_timeout=PATIENCE, proxy=None)


@pytest.fixture(params=[web.starlette, web.fastapi], ids=["starlette", "fastapi"])
def make(request: pytest.FixtureRequest) -> Callable[[Notes], Any]:
    found: Callable[[Notes], Any] = request.param
    return found


@pytest.fixture
def app(make: Callable[[Notes], Any], verifier: LocalVerifier) -> Iterator[Web]:
    notes = Notes()
    with serving(guarded(make, verifier, notes)) as place:
        yield Web(place, notes)


def test_a_request_with_a_good_token_reaches_its_handler_which_knows_the_caller(app: Web, site: Site) -> None:
    answer = app.call("GET", "/reports/7", site.token())

    assert (answer.status_code, answer.text) == (200, site.users["ana"].id)


def test_a_request_without_a_token_is_challenged_for_one(app: Web) -> None:
    answer = app.call("GET", "/reports/7")

    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["reason"] == "CALLER_UNAUTHENTICATED"
    assert app.notes.entered.empty()


def test_a_bad_token_is_refused_by_an_error_that_names_it(
    app: Web, site: Site, verifier: LocalVerifier
) -> None:
    tokens = site.sign_in()
    site.revoke(lambda to: to.revoke_token_id(tokens.token_id))
    until(lambda: verifier.why_ended(tokens.access_token) is not None)

    answer = app.call("GET", "/reports/7", tokens.access_token)

    assert answer.status_code == 401
    assert answer.json()["reason"] == "TOKEN_REVOKED"
    assert answer.headers["www-authenticate"] == (
        'Bearer error="invalid_token", '
        'error_description="the caller\'s token was rejected: the token was revoked", '
        f'token_id_sha256="{sha256_of(tokens.token_id)}"'
    )


def test_a_request_with_two_tokens_is_refused(app: Web, site: Site) -> None:
    connection = http.client.HTTPConnection(app.place, timeout=PATIENCE)
    connection.putrequest("GET", "/reports/7")
    for _ in range(2):
        connection.putheader("Authorization", f"Bearer {site.token()}")
    connection.endheaders()

    assert connection.getresponse().status == 401
    connection.close()


def test_a_token_without_the_scope_is_refused_by_an_error_that_names_the_scope(app: Web, site: Site) -> None:
    by_policy = app.call("GET", "/reports/7", site.token(scopes=[ADMIN]))
    by_handler = app.call("DELETE", "/reports/7", site.token())

    for answer, scope in ((by_policy, READ), (by_handler, ADMIN)):
        assert answer.status_code == 403
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
        assert f'scope="{scope}"' in answer.headers["www-authenticate"]
    assert app.call("DELETE", "/reports/7", site.token(scopes=[ADMIN])).text == "deleted"


@pytest.mark.parametrize(
    "path", ["/other", "/reports", "/reports/1/2", "/%2e%2e/health", "/health/", "/reports/7%0a/"]
)
def test_a_request_that_no_entry_matches_is_forbidden(app: Web, site: Site, path: str) -> None:
    answer = app.call("GET", path, site.token())

    assert answer.status_code == 403
    assert answer.json()["reason"] == "METHOD_NOT_ALLOWED"
    assert "www-authenticate" not in answer.headers


def test_the_log_has_only_the_beginning_of_a_long_path_that_no_entry_matches(
    app: Web, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "identity_client.guard"):
        for end in ("a", "b"):
            assert app.call("GET", f"/{20_000 * 'x'}{end}", site.token()).status_code == 403

    (message,) = [record.message for record in caplog.records]
    assert len(message) < 300


def test_a_public_route_has_no_caller(app: Web, site: Site) -> None:
    assert app.call("GET", "/health").text == "None"
    assert app.call("GET", "/health", site.token()).text == "None"


def test_a_token_that_is_bound_to_a_certificate_is_refused(app: Web, site: Site) -> None:
    token = site.token()
    bound = forger_of(site.world, token).forge(claims={"cnf": {"x5t#S256": "A" * 43}})

    assert app.call("GET", "/reports/7", bound).status_code == 401


def test_while_the_verifier_is_stale_requests_are_unavailable(
    make: Callable[[Notes], Any], site: Site
) -> None:
    with site.verifier() as verifier, serving(guarded(make, verifier, Notes())) as place:
        token = site.token()
        make_stale(verifier, timedelta(minutes=1))
        answer = Web(place, Notes()).call("GET", "/reports/7", token)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "www-authenticate" not in answer.headers


def revoke(site: Site, tokens: TokenSet) -> None:
    site.revoke(lambda to: to.revoke_token_id(tokens.token_id))


def test_server_sent_events_end_with_their_token_and_no_others(app: Web, site: Site) -> None:
    doomed, other = site.sign_in("ana"), site.token("bo")
    streams = [
        app.call("GET", "/changes", token, stream=True).iter_lines() for token in (doomed.access_token, other)
    ]
    assert all(next(stream) for stream in streams)

    revoke(site, doomed)

    with pytest.raises(CUT):
        list(streams[0])
    assert app.notes.ended.get(timeout=PATIENCE) == "TOKEN_REVOKED"
    assert app.notes.ended.empty()


def test_server_sent_events_end_when_their_token_expires(app: Web, site: Site) -> None:
    stream = app.call("GET", "/changes", site.token(lifetime=timedelta(seconds=2)), stream=True)

    with pytest.raises(CUT):
        list(stream.iter_lines())
    assert app.notes.ended.get(timeout=PATIENCE) == "TOKEN_EXPIRED"


def test_a_websocket_ends_with_its_token_and_no_others(app: Web, site: Site) -> None:
    doomed, other = site.sign_in("ana"), site.token("bo")
    with app.talk(doomed.access_token) as dead, app.talk(other) as live:
        for socket, user in ((dead, "ana"), (live, "bo")):
            socket.send("?")
            assert socket.recv(PATIENCE) == site.users[user].id

        revoke(site, doomed)

        with pytest.raises(ConnectionClosedError) as caught:
            dead.recv(PATIENCE)
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1008, "TOKEN_REVOKED")
        live.send("?")
        assert live.recv(PATIENCE) == site.users["bo"].id


@pytest.mark.parametrize(("scope", "status"), [(None, 401), (ADMIN, 403)])
def test_a_websocket_is_refused_before_it_is_accepted(
    app: Web, site: Site, scope: str | None, status: int
) -> None:
    token = site.token(scopes=[scope]) if scope else None

    with pytest.raises(InvalidStatus) as caught:
        app.talk(token)
    assert caught.value.response.status_code == status
    assert app.notes.ended.empty()


async def lifespan(app: Any) -> list[dict[str, Any]]:
    """Start and stop an application by the lifespan protocol; return the messages that it sends."""
    messages = iter(["lifespan.startup", "lifespan.shutdown"])
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": next(messages)}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    await app({"type": "lifespan", "state": {}}, receive, send)
    return said


def test_an_application_with_a_route_without_an_entry_does_not_start(
    make: Callable[[Notes], Any], verifier: LocalVerifier
) -> None:
    app = guarded(make, verifier, Notes())
    assert [said["type"] for said in asyncio.run(lifespan(app))] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]

    app = guarded(make, verifier, Notes())
    app.add_route("/new", web.health)

    (said,) = asyncio.run(lifespan(app))
    assert said["type"] == "lifespan.startup.failed"
    assert "no entry for GET /new" in said["message"]


def test_an_application_that_was_not_started_refuses_the_route_without_an_entry(
    make: Callable[[Notes], Any], verifier: LocalVerifier, site: Site
) -> None:
    app = guarded(make, verifier, Notes())
    app.add_route("/new", web.health)

    assert asyncio.run(get(app, "/new", site.token())) == 403
    assert asyncio.run(get(app, "/health")) == 200


async def get(app: Any, path: str, token: str = "", root_path: str = "", method: str = "GET") -> int:
    """Send a GET to an application without a server; return the status of the response."""
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
    scope = {"type": "http", "method": method, "path": path, "root_path": root_path, "headers": headers}
    await app(scope | {"query_string": b""}, receive, send)
    return int(said[0]["status"])


def test_an_application_whose_routes_are_unknown_is_protected_by_the_entries_alone(
    verifier: LocalVerifier, site: Site
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("")(scope, receive, send)

    policy = HttpPolicy(AUDIENCE, {"GET /reports/{id}": [READ]})
    protected: Any = GuardMiddleware(app, verifier=verifier, policy=policy)

    assert asyncio.run(get(protected, "/reports/7", site.token())) == 200
    assert asyncio.run(get(protected, "/reports/7")) == 401
    assert asyncio.run(get(protected, "/other", site.token())) == 403
    assert asyncio.run(get(protected, "/api/reports/7", site.token(), "/api")) == 200


@pytest.mark.parametrize("method", ["delete", "Delete", "WEBSOCKET"])
def test_a_method_that_another_entry_names_in_another_way_is_forbidden(
    verifier: LocalVerifier, site: Site, method: str
) -> None:
    """Django treats the method `delete` like DELETE."""
    entries = HttpPolicy(AUDIENCE, {"DELETE /x": [ADMIN], "/x": [READ], "WEBSOCKET /x": public()})
    protected: Any = GuardMiddleware(PlainTextResponse(""), verifier=verifier, policy=entries)

    assert asyncio.run(get(protected, "/x", site.token(), method=method)) == 403
    assert asyncio.run(get(protected, "/x", site.token())) == 200


@pytest.mark.parametrize("public_path", ["/health", "/{name}"])
def test_a_path_with_a_final_line_break_is_forbidden(verifier: LocalVerifier, public_path: str) -> None:
    """Starlette routes `/health%0A` to `/health`, and Django does so for `<str:name>`."""
    routes = {f"GET {path}": public() if path == public_path else [READ] for path in ("/health", "/{name}")}
    policy = HttpPolicy(AUDIENCE, routes)
    protected: Any = GuardMiddleware(PlainTextResponse(""), verifier=verifier, policy=policy)

    assert asyncio.run(get(protected, public_path)) == 200
    assert asyncio.run(get(protected, "/health\n")) == 403


def test_the_prefix_that_an_application_has_by_itself_is_no_part_of_its_routes(
    verifier: LocalVerifier,
) -> None:
    app = FastAPI(openapi_url=None)
    app.root_path = "/v1"
    app.add_api_route("/admin", web.health)
    app.add_api_route("/{page:path}", web.health)
    entries = HttpPolicy(AUDIENCE, {"/admin": [ADMIN], "/{page:path}": public()})
    protected = GuardMiddleware(app, verifier=verifier, policy=entries)

    assert asyncio.run(get(protected, "/v1/admin")) == 401


def test_an_application_that_swallows_the_end_sends_nothing_more(verifier: LocalVerifier, site: Site) -> None:
    tokens = site.sign_in()
    said: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.to_thread(revoke, site, tokens)
            await asyncio.Event().wait()
        await send({"type": "http.response.body", "body": b"too late"})

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    protected: Any = GuardMiddleware(app, verifier=verifier, policy=HttpPolicy(AUDIENCE, {"/x": [READ]}))
    headers = [(b"authorization", f"Bearer {tokens.access_token}".encode())]
    scope = {"type": "http", "method": "GET", "path": "/x", "headers": headers}
    asyncio.run(asyncio.wait_for(protected(scope, None, send), PATIENCE))

    assert [message.get("body") for message in said] == [None, b"1"]
    assert protected._calls.sizes()[:2] == (0, 0)


@pytest.mark.parametrize("way", ["revoked", "expired"])
def test_a_request_whose_body_arrives_after_the_end_of_its_token_is_refused(
    verifier: LocalVerifier, site: Site, way: str
) -> None:
    tokens = site.sign_in(lifetime=timedelta(seconds=2 if way == "expired" else 600))
    served = asyncio.Event()
    said: list[dict[str, Any]] = []
    observed: list[tuple[str, ...]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await receive()
        except Exception as error:  # as frameworks do
            raise RuntimeError("the body cannot be read") from error
        served.set()
        await PlainTextResponse("")(scope, receive, send)

    async def receive() -> dict[str, Any]:
        if way == "revoked":
            await asyncio.to_thread(revoke, site, tokens)
        await asyncio.to_thread(until, lambda: verifier.why_ended(tokens.access_token) is not None)
        return {"type": "http.request", "body": b"late"}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    def observe(*what: str) -> None:
        observed.append(what)

    policy = HttpPolicy(AUDIENCE, {"/x": [READ]})
    protected: Any = GuardMiddleware(app, verifier=verifier, policy=policy, observe=observe)
    headers = [(b"authorization", f"Bearer {tokens.access_token}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/x", "headers": headers}
    asyncio.run(asyncio.wait_for(protected(scope, receive, send), PATIENCE))

    assert said[0]["status"] == 401
    assert not served.is_set()
    assert observed == [("admitted", ""), ("ended", f"TOKEN_{way.upper()}")]


def test_a_request_with_a_body_about_which_the_service_was_asked_is_served(
    site: Site, asking: IdentityClient
) -> None:
    """The verifier has neither keys nor revocations yet, so the guard asks the service."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await PlainTextResponse("")(scope, receive, send)

    policy = HttpPolicy(AUDIENCE, {"/x": [READ]}, on_stale=ASK)
    with LocalVerifier(f"127.0.0.1:{reserve_port()}", issuer="identity-service") as unready:
        protected: Any = GuardMiddleware(app, verifier=unready, policy=policy, ask=asking)

        assert asyncio.run(get(protected, "/x", site.token())) == 200


def test_the_work_of_an_application_after_its_response_is_not_ended(
    verifier: LocalVerifier, site: Site
) -> None:
    """Starlette, for example, runs background tasks after the response."""
    tokens = site.sign_in()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        await send({"type": "http.response.body", "body": b"2"})
        await asyncio.to_thread(revoke, site, tokens)
        await asyncio.to_thread(until, lambda: verifier.why_ended(tokens.access_token) is not None)
        await asyncio.sleep(0)
        done.append(True)

    done: list[bool] = []
    protected: Any = GuardMiddleware(app, verifier=verifier, policy=HttpPolicy(AUDIENCE, {"/x": [READ]}))

    assert asyncio.run(get(protected, "/x", tokens.access_token)) == 200
    assert done


def test_an_unknown_protocol_is_refused(verifier: LocalVerifier) -> None:
    protected: Any = GuardMiddleware(None, verifier=verifier, policy=HttpPolicy(AUDIENCE, {}))  # type: ignore[arg-type]

    with pytest.raises(RuntimeError, match="cannot protect the ASGI protocol webtransport"):
        asyncio.run(protected({"type": "webtransport"}, None, None))


def test_an_error_of_the_application_stays_its_own(verifier: LocalVerifier, site: Site) -> None:
    def fail(_: Request) -> PlainTextResponse:
        raise LookupError("a bug")

    guard = Middleware(GuardMiddleware, verifier=verifier, policy=HttpPolicy(AUDIENCE, {"GET /x": [READ]}))
    app = Starlette(routes=[Route("/x", fail)], middleware=[guard])

    with pytest.raises(LookupError):
        asyncio.run(get(app, "/x", site.token()))
