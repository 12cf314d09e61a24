"""Authentication for httpx and requests, with a service that asks the identity service about tokens."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import requests

from identity_client import AccessTokens
from identity_client.http import HttpxAuth, RequestsAuth
from identity_shared.token_ids import hash_token_id, unverified_token_id
from tests.clients.sources import Clock, SignIns, async_source
from tests.patience import PATIENCE
from tests.rpc.world import World


class Reports:
    """A service that echoes bodies, and refuses tokens as a guard does."""

    def __init__(self, service: World) -> None:
        self._service = service
        self.seen: list[str] = []
        """The tokens of the requests."""
        self.names: str | None = None
        """The token that refusals name; None = the token of the request."""
        self.always_refuses = False
        self.redirects_to = ""

    def handler(reports: "Reports") -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                token = self.headers.get("authorization", "").removeprefix("Bearer ")
                reports.seen.append(token)
                status, more = reports.answer(token)
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def answer(self, token: str) -> tuple[int, dict[str, str]]:
        if self.redirects_to:
            return 307, {"location": self.redirects_to}
        if not self.always_refuses and token and not self._service.reason(token):
            return 200, {}
        named = hash_token_id(unverified_token_id(self.names or token))
        return 401, {"www-authenticate": f'Bearer error="invalid_token", token_id_sha256="{named}"'}


def serve(reports: Reports) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), reports.handler())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def reports(service: World) -> Reports:
    return Reports(service)


@pytest.fixture
def url(reports: Reports) -> Iterator[str]:
    server = serve(reports)
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


Post = Callable[[str, Any], tuple[int, bytes]]


@pytest.fixture(params=["httpx", "httpx.Async", "requests"])
def post(request: pytest.FixtureRequest, tokens: AccessTokens, sign_ins: SignIns, clock: Clock) -> Post:
    """Return a function that posts a body with one of the libraries, following redirects."""
    if request.param == "requests":

        def by_requests(url: str, body: Any) -> tuple[int, bytes]:
            answer = requests.post(url, data=body, auth=RequestsAuth(tokens), timeout=PATIENCE)
            return answer.status_code, answer.content

        return by_requests
    if request.param == "httpx":

        def by_httpx(url: str, body: Any) -> tuple[int, bytes]:
            options: Any = {"timeout": PATIENCE, "follow_redirects": True, "trust_env": False}
            with httpx.Client(auth=HttpxAuth(tokens), **options) as client:
                answer = client.post(url, content=body)
            return answer.status_code, answer.content

        return by_httpx
    twin = async_source(sign_ins, clock)
    twin._renewer = tokens._renewer

    async def by_async(url: str, body: Any) -> tuple[int, bytes]:
        options: Any = {"timeout": PATIENCE, "follow_redirects": True, "trust_env": False}
        async with httpx.AsyncClient(auth=HttpxAuth(twin), **options) as client:
            answer = await client.post(url, content=body)
        return answer.status_code, answer.content

    return lambda url, body: asyncio.run(by_async(url, body))


def revoke(service: World, token: str) -> None:
    service.revoke(service.admin_token(), token_id=unverified_token_id(token))


def test_a_request_carries_the_token(post: Post, url: str, reports: Reports, tokens: AccessTokens) -> None:
    assert post(url, b"body") == (200, b"body")
    assert reports.seen == [tokens()]


def test_a_request_is_repeated_once_with_its_body_if_its_token_was_revoked(
    post: Post, url: str, reports: Reports, tokens: AccessTokens, service: World
) -> None:
    first = tokens()
    revoke(service, first)

    assert post(url, b"body") == (200, b"body")

    assert reports.seen == [first, tokens()]


def test_if_the_second_token_is_refused_as_well_that_is_the_answer(
    post: Post, url: str, reports: Reports
) -> None:
    reports.always_refuses = True

    assert post(url, b"body")[0] == 401

    assert len(reports.seen) == 2


def test_an_answer_from_further_down_names_another_token_and_is_not_repeated(
    post: Post, url: str, reports: Reports, service: World
) -> None:
    reports.always_refuses, reports.names = True, service.admin_token()

    assert post(url, b"body")[0] == 401

    assert len(reports.seen) == 1


def test_after_a_redirect_to_another_host_the_token_is_not_sent_there(
    post: Post, url: str, reports: Reports, service: World, tokens: AccessTokens
) -> None:
    other = Reports(service)
    other.names = tokens()
    server = serve(other)
    reports.redirects_to = f"http://localhost:{server.server_port}/"

    post(url, b"body")

    server.shutdown()
    server.server_close()
    assert set(other.seen) == {""}


def test_a_body_that_is_a_stream_is_not_sent_again(tokens: AccessTokens, url: str, reports: Reports) -> None:
    reports.always_refuses = True
    with httpx.Client(auth=HttpxAuth(tokens), timeout=PATIENCE, trust_env=False) as client:
        client.post(url, content=iter([b"body"]), headers={"content-length": "4"})
    requests.post(url, data=iter([b"body"]), auth=RequestsAuth(tokens), timeout=PATIENCE)

    assert len(reports.seen) == 2


def test_the_kind_of_source_that_does_not_fit_the_client_is_refused(
    tokens: AccessTokens, sign_ins: SignIns, clock: Clock, url: str
) -> None:
    with (
        httpx.Client(auth=HttpxAuth(async_source(sign_ins, clock))) as client,
        pytest.raises(TypeError, match="needs AccessTokens"),
    ):
        client.get(url)

    async def work() -> None:
        async with httpx.AsyncClient(auth=HttpxAuth(tokens)) as client:
            with pytest.raises(TypeError, match="needs AsyncAccessTokens"):
                await client.get(url)

    asyncio.run(work())
