"""The rules of all OAuth endpoints: the form of a request, and a response for every exception."""

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from identity_service.http_api import paths
from identity_service.http_api.messages import HttpRequest
from identity_service.services.authenticate import Authenticator
from tests.unit.http_api.oauth_site import PEER, Site

PATHS = [paths.TOKEN, paths.INTROSPECT, paths.REVOKE]


def request(path: str, **changes: Any) -> HttpRequest:
    made = HttpRequest(
        method="POST",
        path=path,
        query=b"",
        headers={"content-type": ("application/x-www-form-urlencoded",)},
        body=b"",
        origin=PEER,
    )
    return replace(made, **changes)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_only_a_post_is_answered(site: Site, path: str, method: str) -> None:
    answer = site.send(request(path, method=method))

    assert (answer.status, answer.headers["Allow"]) == (405, ["POST"])


@pytest.mark.parametrize("path", PATHS)
def test_parameters_in_the_url_are_refused(site: Site, path: str) -> None:
    assert site.send(request(path, query=b"client_secret=x")).error == "invalid_request"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", [{}, {"content-type": ("application/json",)}])
def test_a_body_of_another_kind_is_refused(
    site: Site, path: str, headers: dict[str, tuple[str, ...]]
) -> None:
    assert site.send(request(path, headers=headers, body=b"{}")).error == "invalid_request"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [b"", b"\xff", b"token=a&token=b", b"x=%zz", b"a=" + b"x" * 70_000])
def test_a_malformed_body_is_an_error_of_oauth(site: Site, path: str, body: bytes) -> None:
    answer = site.send(request(path, body=body))

    assert (answer.status, answer.error) in {(400, "invalid_request"), (401, "invalid_client")}
    assert answer.headers["Cache-Control"] == ["no-store"]


def test_unknown_parameters_are_ignored(site: Site) -> None:
    site.new_client()

    assert site.client_token(nonsense="1", code="x", redirect_uri="y").status == 200


@pytest.mark.parametrize("text", ["a\r\nSet-Cookie: x=1", "a\nb", "\x00", "é\u2028", '"\\'])
def test_no_text_of_a_request_reaches_a_header_or_leaves_ascii(site: Site, text: str) -> None:
    site.new_client()
    answers = [
        site.token({"grant_type": text}),
        site.client_token(scope=text),
        site.client_token(audience=text),
        site.token({"grant_type": "password", "client_id": "reports", "username": text, "password": text}),
        site.token({"grant_type": "client_credentials", "client_id": text, "client_secret": text}),
        site.token({"grant_type": "client_credentials"}, authorization=text),
    ]

    for answer in answers:
        shown = [value for values in answer.headers.values() for value in values]
        assert all(value.isascii() and value.isprintable() for value in shown)
        assert not any("Set-Cookie" in value for value in shown)
        assert answer.json["error_description"].isascii()
        assert answer.status in {400, 401}


@pytest.mark.parametrize("path", PATHS)
def test_a_bug_is_answered_and_logged_without_the_text_of_the_exception(
    site: Site, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("with a secret")

    monkeypatch.setattr(Authenticator, "client", fails)
    params = {"grant_type": "password", "username": "ana", "password": "x", "token": "x"}

    with capture_logs() as lines:
        answer = site.post(path, params, authorization=site.basic("gateway"))

    assert (answer.status, answer.json) == (500, {"error": "server_error"})
    (line,) = [line for line in lines if line["event"] == "http_bug"]
    assert (line["path"], line["error"], line["request_id"]) == (path, "RuntimeError", "r-1")
    assert "secret" not in str(line)


def test_a_request_shows_no_credential() -> None:
    shown = repr(request(paths.TOKEN, body=b"hidden", headers={"authorization": ("hidden",)}))

    assert "hidden" not in shown
