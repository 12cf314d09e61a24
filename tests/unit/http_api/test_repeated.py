"""A repeated token request is recognised only if all of its bytes are the same."""

from dataclasses import replace
from typing import Any

import pytest

from identity_service.domain.origin import PeerCertificate
from identity_service.http_api.messages import HttpRequest
from identity_service.http_api.oauth.token import digest_of
from identity_service.services.issue import TokenIssuer
from tests.unit.http_api.oauth_site import PEER, Site

REQUEST = HttpRequest(
    method="POST",
    path="/oauth2/token",
    query=b"",
    headers={"authorization": ("Basic YTpi",), "content-type": ("application/x-www-form-urlencoded",)},
    body=b"grant_type=client_credentials",
    origin=PEER,
)


def test_a_repeated_request_gets_another_token_without_being_decided_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.new_client()
    first = site.client_token()
    monkeypatch.setattr(TokenIssuer, "issue", None)
    second = site.client_token()

    assert (second.status, second.headers) == (first.status, first.headers)
    assert second.json["access_token"] != first.json["access_token"]
    assert {**second.json, "access_token": ""} == {**first.json, "access_token": ""}
    assert site.is_active(second.json["access_token"])


def test_a_client_that_is_disabled_gets_no_token_for_a_repeated_request(site: Site) -> None:
    site.new_client()
    assert site.client_token().status == 200
    site.update_client("reports", disabled=True)

    assert (site.client_token().status, site.client_token().error) == (401, "invalid_client")


def test_tokens_of_other_credentials_are_decided_each_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.new_app()
    site.new_user()
    assert site.sign_in().status == 200
    monkeypatch.setattr(TokenIssuer, "issue", None)

    assert site.sign_in().status == 500


@pytest.mark.parametrize(
    "changes",
    [
        {"body": b"grant_type=client_credentials&scope=read"},
        {"headers": {**REQUEST.headers, "authorization": ("Basic YTpj",)}},
        {"headers": {**REQUEST.headers, "authorization": ("Basic YTpi", "Basic YTpi")}},
        {"headers": {"authorization": REQUEST.headers["authorization"]}},
        {"headers": {"content-type": REQUEST.headers["authorization"]}},
    ],
)
def test_a_request_with_other_bytes_is_another_request(changes: dict[str, Any]) -> None:
    assert digest_of(REQUEST) == digest_of(replace(REQUEST, headers={**REQUEST.headers, "x": ("1",)}))
    assert digest_of(replace(REQUEST, **changes)) != digest_of(REQUEST)


def test_the_same_value_in_another_header_makes_another_request() -> None:
    values = ("Basic YTpi",)
    first, second = ({name: values} for name in ("authorization", "content-type"))
    assert digest_of(replace(REQUEST, headers=first)) != digest_of(replace(REQUEST, headers=second))


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "GET"},
        {"query": b"a=b"},
        {"headers": {**REQUEST.headers, "dpop": ("a.b.c",)}},
        {"origin": replace(PEER, certificate=PeerCertificate(sha256=b"x" * 32, names=frozenset()))},
    ],
)
def test_a_request_that_its_bytes_do_not_decide_is_not_recognised(changes: dict[str, Any]) -> None:
    assert digest_of(replace(REQUEST, **changes)) is None
