"""Connections without TLS are possible only within the machine, unless the caller allows plaintext."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests

from identity_client import (
    AccessTokens,
    AdminClient,
    AsyncAccessTokens,
    AsyncAdminClient,
    AsyncIdentityClient,
    AsyncLocalVerifier,
    AsyncTrustClient,
    ClientOptions,
    IdentityClient,
    LocalVerifier,
    TlsOptions,
    TrustClient,
)
from identity_client.http import HttpxAuth, RequestsAuth
from identity_client.transport import is_loopback, tls_by_default

ELSEWHERE = "identity.example:443"


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("[::1]", True),
        ("localhost:1", True),
        ("localhost", True),
        ("dns:///localhost:1", True),
        ("unix:/run/reports.sock", True),
        ("unix-abstract:reports", True),
        ("localhost.example.com:1", False),
        ("127.0.0.1.example.com:1", False),
        ("10.0.0.1:1", False),
        ("[2001:db8::1]:1", False),
        ("reports:443", False),
        ("reports", False),
        ("ipv4:10.0.0.1:1,127.0.0.1:1", False),
        ("dns://10.0.0.1/localhost:1", False),
        ("localhost@reports:443", False),
        ("reports:1,localhost:1", False),
        ("", False),
    ],
)
def test_loopback_is_told_from_other_addresses(target: str, *, local: bool) -> None:
    assert is_loopback(target) is local


def test_a_channel_uses_tls_by_default_unless_plaintext_may_be_used() -> None:
    own = TlsOptions(ca_file=Path("ca.pem"))

    assert tls_by_default("reports:443", None, allow_plaintext=False) == TlsOptions()
    assert tls_by_default("reports:443", own, allow_plaintext=True) is own
    assert tls_by_default("reports:443", None, allow_plaintext=True) is None
    assert tls_by_default("127.0.0.1:50051", None, allow_plaintext=False) is None
    assert tls_by_default("127.0.0.1:50051", own, allow_plaintext=False) is own


def by_secret(target: str, options: ClientOptions | None = None) -> AccessTokens:
    return AccessTokens.by_secret("reports", "s3cret", target=target, options=options)


def by_password(target: str, options: ClientOptions | None = None) -> AsyncAccessTokens:
    return AsyncAccessTokens.by_password("ana", "s3cret", target=target, options=options)


def following(target: str, options: ClientOptions | None = None) -> LocalVerifier:
    return LocalVerifier(target, issuer="i", options=options)


def following_in_a_task(target: str, options: ClientOptions | None = None) -> AsyncLocalVerifier:
    return AsyncLocalVerifier(target, issuer="i", options=options)


@pytest.fixture(
    params=[
        *(IdentityClient, AdminClient, TrustClient, following, by_secret),
        *(AsyncIdentityClient, AsyncAdminClient, AsyncTrustClient, following_in_a_task, by_password),
    ],
    ids=lambda make: make.__name__,
)
def connect(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Return a function that makes and closes a client, for each kind of client."""

    async def connect(target: str, options: ClientOptions | None) -> None:
        closed = request.param(target, options=options).close()
        if closed is not None:
            await closed

    return lambda target, options=None: asyncio.run(connect(target, options))


def test_a_client_of_another_machine_is_not_made_without_tls(connect: Callable[..., None]) -> None:
    with pytest.raises(ValueError, match=f"^{ELSEWHERE} is not an address of this machine") as error:
        connect(ELSEWHERE)

    assert "tls=TlsOptions" in str(error.value)
    assert "allow_plaintext=True" in str(error.value)
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("options", [ClientOptions(tls=TlsOptions()), ClientOptions(allow_plaintext=True)])
def test_a_client_of_another_machine_is_made_with_tls_or_if_plaintext_is_allowed(
    connect: Callable[..., None], options: ClientOptions
) -> None:
    connect(ELSEWHERE, options)


def test_a_client_of_this_machine_needs_no_tls(connect: Callable[..., None]) -> None:
    connect("127.0.0.1:1")


class Tokens:
    """A source that counts how often it gives its token."""

    def __init__(self) -> None:
        self.given = 0

    def __call__(self, timeout: float | None = None) -> str:
        self.given += 1
        return "t0ken"

    def token_id(self, token: str) -> str:
        return ""

    def invalidate(self, token: str) -> bool:
        return False


class AsyncTokens(Tokens):
    async def __call__(self, timeout: float | None = None) -> str:  # type: ignore[override]
        return super().__call__(timeout)


Send = Callable[..., str]


@pytest.fixture(params=["httpx", "httpx.Async", "requests"])
def send(request: pytest.FixtureRequest) -> tuple[Tokens, Send]:
    """Return a function that prepares a request with one of the libraries and returns its `authorization`."""

    def answer(sent: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=sent.headers["authorization"])

    tokens = AsyncTokens() if request.param == "httpx.Async" else Tokens()

    def by_requests(url: str, **options: Any) -> str:
        made = requests.Request("GET", url, auth=RequestsAuth(tokens, **options)).prepare()
        return str(made.headers["Authorization"])

    def by_httpx(url: str, **options: Any) -> str:
        auth = HttpxAuth(tokens, **options)
        with httpx.Client(auth=auth, transport=httpx.MockTransport(answer)) as client:
            return client.get(url).text

    def by_async(url: str, **options: Any) -> str:
        async def work() -> str:
            auth = HttpxAuth(tokens, **options)
            async with httpx.AsyncClient(auth=auth, transport=httpx.MockTransport(answer)) as client:
                return (await client.get(url)).text

        return asyncio.run(work())

    return tokens, {"requests": by_requests, "httpx": by_httpx, "httpx.Async": by_async}[request.param]


@pytest.mark.parametrize(
    "url",
    [
        "http://reports/today",
        "http://reports:443/",
        "http://localhost.example/",
        "http://127.0.0.1@reports/",
        "HTTP://reports",
    ],
)
def test_no_token_is_sent_by_http_to_another_machine(send: tuple[Tokens, Send], url: str) -> None:
    tokens, to = send

    with pytest.raises(ValueError, match=r"no token is sent to \S+ by http.+allow_plaintext=True"):
        to(url)

    assert tokens.given == 0


@pytest.mark.parametrize(
    "url", ["https://reports/", "http://127.0.0.1:8080/", "http://[::1]:8080/", "http://localhost/"]
)
def test_tokens_are_sent_by_https_and_to_this_machine(send: tuple[Tokens, Send], url: str) -> None:
    assert send[1](url) == "Bearer t0ken"


def test_tokens_are_sent_by_http_if_that_is_allowed(send: tuple[Tokens, Send]) -> None:
    assert send[1]("http://reports/", allow_plaintext=True) == "Bearer t0ken"
