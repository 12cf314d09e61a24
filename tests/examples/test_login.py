"""examples/login: a page signs in, renews its tokens and signs out, over TLS."""

import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx
import pytest

from identity_client.testing import ServiceUnderTest
from identityapi.v1.principal_pb2 import GRANT_CLIENT_CREDENTIALS, GRANT_PASSWORD, GRANT_REFRESH_TOKEN
from tests.examples.conftest import EXAMPLES, environment
from tests.patience import PATIENCE, until
from tests.ports import refusing_address, reserve_port
from tests.tls import Certifier

COOKIE = "__Host-refresh"
PASSWORD = "correct horse battery"
AUDIENCE = "demo-api"


@pytest.fixture(scope="module")
def certifier(tmp_path_factory: pytest.TempPathFactory) -> Certifier:
    return Certifier(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def variables(identity: ServiceUnderTest) -> dict[str, str]:
    """Return the environment of the backend, whose client may verify tokens and sign users in."""
    identity.create_client(
        "login",
        audiences=["identity-service", AUDIENCE],
        scopes=["identity.verify", "read"],
        grants=[GRANT_CLIENT_CREDENTIALS, GRANT_PASSWORD, GRANT_REFRESH_TOKEN],
    )
    identity.create_user("ana", PASSWORD, audiences=[AUDIENCE], scopes=["read"])
    return environment(identity, identity.environment("login"))


@contextmanager
def serving(certifier: Certifier, variables: Mapping[str, str]) -> Iterator[str]:
    """Run the example's backend; yield its origin."""
    port, holder = reserve_port(), certifier.server()
    origin = f"https://localhost:{port}"
    words = ["--port", str(port), "--origin", origin, "--audience", AUDIENCE]
    words += ["--certificate", str(holder.certificate_file), "--key", str(holder.key_file)]
    program = str(EXAMPLES / "login" / "login_backend.py")
    process = subprocess.Popen([sys.executable, program, *words], env=dict(variables))
    try:
        with visitor(origin, certifier) as client:
            until(lambda: process.poll() is not None or is_served(client))
        yield origin
    finally:
        process.terminate()
        process.wait(PATIENCE)


def is_served(client: httpx.Client) -> bool:
    try:
        return client.get("/me").status_code in (401, 503)
    except httpx.TransportError:
        return False


def visitor(origin: str, certifier: Certifier) -> httpx.Client:
    """Return an HTTP client that sends what a browser sends for a page of this origin."""
    return httpx.Client(
        base_url=origin,
        headers={"origin": origin},
        verify=ssl.create_default_context(cafile=str(certifier.file)),
        timeout=PATIENCE,
    )


@pytest.fixture(scope="module")
def origin(certifier: Certifier, variables: dict[str, str]) -> Iterator[str]:
    with serving(certifier, variables) as origin:
        yield origin


@pytest.fixture
def browser(origin: str, certifier: Certifier) -> Iterator[httpx.Client]:
    with visitor(origin, certifier) as client:
        yield client


def sign_in(browser: httpx.Client) -> str:
    """Sign the user ana in; return the access token."""
    answer = browser.post("/login", json={"username": "ana", "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def me(browser: httpx.Client, token: str) -> int:
    return browser.get("/me", headers={"authorization": f"Bearer {token}"}).status_code


def test_the_access_token_is_in_the_answer_and_the_refresh_token_in_a_cookie_for_no_script(
    browser: httpx.Client,
) -> None:
    answer = browser.post("/login", json={"username": "ana", "password": PASSWORD})

    assert set(answer.json()) == {"access_token", "expires_at"}
    assert answer.headers["cache-control"] == "no-store"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    for attribute in ("HttpOnly", "Secure", "SameSite=strict", "Path=/"):
        assert attribute in cookie.split("; ")
    assert "Domain" not in cookie
    until(lambda: me(browser, answer.json()["access_token"]) == 200)


def test_a_refresh_replaces_both_tokens(browser: httpx.Client) -> None:
    first, cookie = sign_in(browser), browser.cookies[COOKIE]

    answer = browser.post("/refresh")

    assert answer.status_code == 200
    assert answer.json()["access_token"] != first
    assert browser.cookies[COOKIE] != cookie
    assert me(browser, answer.json()["access_token"]) == 200


def test_after_signing_out_no_token_is_of_use(browser: httpx.Client) -> None:
    token, cookie = sign_in(browser), browser.cookies[COOKIE]

    assert browser.post("/logout").status_code == 204

    assert COOKIE not in browser.cookies
    until(lambda: me(browser, token) == 401)
    refused = browser.post("/refresh", headers={"cookie": f"{COOKIE}={cookie}"})
    assert refused.status_code == 401
    assert "Max-Age=0" in refused.headers["set-cookie"]


@pytest.mark.parametrize("path", ["/login", "/refresh", "/logout"])
@pytest.mark.parametrize("origin_of_page", ["https://other.localhost", "null", ""])
def test_a_page_of_another_origin_can_do_nothing_with_the_cookie(
    browser: httpx.Client, path: str, origin_of_page: str
) -> None:
    token = sign_in(browser)

    refused = browser.post(
        path, json={"username": "ana", "password": PASSWORD}, headers={"origin": origin_of_page}
    )

    assert refused.status_code == 403
    assert "set-cookie" not in refused.headers
    assert me(browser, token) == 200


def test_the_cookie_alone_opens_no_protected_route(browser: httpx.Client) -> None:
    sign_in(browser)
    assert browser.get("/me").status_code == 401


def test_a_wrong_password_and_a_malformed_body_are_told_apart(browser: httpx.Client) -> None:
    wrong = browser.post("/login", json={"username": "ana", "password": "not the password"})
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
    assert browser.post("/login", content=b"{").status_code == 400
    assert browser.post("/login", json=[]).status_code == 400


def test_too_many_wrong_passwords_are_answered_with_the_time_to_wait(
    browser: httpx.Client, identity: ServiceUnderTest
) -> None:
    identity.create_user("bo", PASSWORD, audiences=[AUDIENCE], scopes=["read"])
    wrong = {"username": "bo", "password": "not the password"}
    for _ in range(5):
        assert browser.post("/login", json=wrong).status_code == 401

    refused = browser.post("/login", json=wrong)

    assert refused.status_code == 429
    assert refused.json() == {"error": "TOO_MANY_ATTEMPTS"}
    assert int(refused.headers["retry-after"]) > 0


def test_a_cookie_is_kept_if_its_session_could_not_be_ended(
    certifier: Certifier, variables: dict[str, str]
) -> None:
    with (
        refusing_address() as nowhere,
        serving(certifier, {**variables, "IDENTITY_TARGET": nowhere}) as origin,
        visitor(origin, certifier) as browser,
    ):
        answer = browser.post("/logout", headers={"cookie": f"{COOKIE}=anything"})

    assert answer.status_code == 503
    assert answer.json() == {"error": "UNAVAILABLE"}
    assert "set-cookie" not in answer.headers
