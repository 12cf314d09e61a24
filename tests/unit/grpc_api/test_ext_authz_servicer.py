"""The decisions of ext_authz are the same on an event loop and in a thread, whatever is cached."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from identity_service.domain.errors import InvalidRequestError
from identity_service.domain.ids import PrincipalId
from identity_service.domain.secret import Secret
from identity_service.grpc_api.ext_authz.servicer import ExtAuthzServicer
from identity_service.grpc_api.ext_authz.wire.auth_pb2 import CheckRequest, CheckResponse
from identity_service.grpc_api.ext_authz.wire.core_pb2 import HeaderMap, HeaderValue
from identity_service.services.authenticate import ClientSecret
from identity_service.services.issue import IssueRequest
from identity_service.services.verify import StoreReadRequiredError, Verified, VerifyRequest
from tests.service_site import ServiceSite, open_service_site


class Gateway:
    """A gateway that asks the servicer for decisions; the test's process issues the tokens."""

    def __init__(self, site: ServiceSite) -> None:
        self.site = site
        self.servicer = ExtAuthzServicer(site.use.verifier, {})
        self.client = site.new_client()

    def token(self) -> str:
        secret = Secret(self.site.secrets[self.client])
        credential = ClientSecret(client_id=PrincipalId(self.client), secret=secret)
        return self.site.use.issuer.issue(IssueRequest(credential=credential)).access_token

    def both(self, token: str, **request: Any) -> tuple[CheckResponse, CheckResponse]:
        """Return the decision that a thread makes, and the one that an event loop makes."""
        asked = request_of(token, **request)
        now = self.servicer.check_now(asked, b"")
        assert now is not None
        return CheckResponse.FromString(self.servicer.check(asked, b"")), CheckResponse.FromString(now)


def request_of(
    token: str, *, path: str = "/", headers: Mapping[str, str] | None = None, **fields: Any
) -> CheckRequest:
    request = CheckRequest()
    request.attributes.context_extensions["audience"] = "api"
    request.attributes.source.certificate = fields.pop("certificate", "")
    http = request.attributes.request.http
    http.path = path
    http.headers.update({"authorization": f"Bearer {token}"} | dict(headers or {}))
    http.MergeFrom(type(http)(**fields))
    return request


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with open_service_site() as site:
        yield Gateway(site)


def test_each_token_passes_with_its_own_identity_however_often_it_comes(gateway: Gateway) -> None:
    tokens = [gateway.token(), gateway.token()] * 2

    answers = [gateway.both(token) for token in tokens]

    assert all(thread == loop for thread, loop in answers)
    assert answers[0] == answers[2] != answers[1] == answers[3]
    assert all(answer.HasField("ok_response") for answer, _ in answers)


def test_headers_by_which_a_client_claims_an_identity_are_removed_also_if_its_token_passed_before(
    gateway: Gateway,
) -> None:
    token = gateway.token()
    before, _ = gateway.both(token)
    claiming, now = gateway.both(token, headers={"x_identity.admin": "true"})
    after, _ = gateway.both(token)

    assert claiming == now
    assert "x_identity.admin" in claiming.ok_response.headers_to_remove
    assert before == after
    assert "x_identity.admin" not in after.ok_response.headers_to_remove


def test_a_token_that_passed_is_refused_as_soon_as_it_is_revoked(gateway: Gateway) -> None:
    token = gateway.token()
    assert all(answer.HasField("ok_response") for answer in gateway.both(token))
    gateway.site.revoke_all_of(gateway.client)

    assert all(answer.HasField("denied_response") for answer in gateway.both(token))


def test_a_token_passes_with_its_own_identity_also_if_another_has_the_same_id(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = gateway.site.use.verifier
    first = verifier.verify(VerifyRequest(token=gateway.token(), any_audience=True))
    assert isinstance(first, Verified)
    tokens = [first.token, replace(first.token, subject=PrincipalId("another"))]
    found = iter(replace(first, token=token) for token in tokens)
    monkeypatch.setattr(verifier, "verify", lambda _: next(found))

    answers = [CheckResponse.FromString(gateway.servicer.check(request_of("x"), b"")) for _ in tokens]

    subjects = [
        header.header.value
        for answer in answers
        for header in answer.ok_response.headers
        if header.header.key == "x-identity-subject"
    ]
    assert subjects == [gateway.client, "another"]


@pytest.mark.parametrize(
    "fields",
    [
        {"certificate": "-----BEGIN CERTIFICATE-----"},
        {"path": f"/?{'a' * 2048}"},
        {"body": "a" * 2048},
        {"raw_body": b"a" * 2048},
        {"headers": {f"x-{number}": "" for number in range(128)}},
        {"header_map": HeaderMap(headers=[HeaderValue(key="x", value="y")] * 128)},
    ],
)
def test_a_request_that_takes_long_to_read_is_left_to_a_thread(
    gateway: Gateway, fields: dict[str, Any]
) -> None:
    request = request_of(gateway.token(), **fields)

    assert gateway.servicer.check_now(request, b"") is None
    assert CheckResponse.FromString(gateway.servicer.check(request, b"")).HasField("ok_response")


@pytest.mark.parametrize(
    "fields",
    [
        {"headers": {f"x-{number}": "" for number in range(1000)}},
        {"header_map": HeaderMap(headers=[HeaderValue(key="x", value="y")] * 1000)},
    ],
)
def test_more_headers_than_any_gateway_passes_on_are_refused(
    gateway: Gateway, fields: dict[str, Any]
) -> None:
    """A message of 256 KiB can have 130,000 headers, which took 0.17 s to read."""
    request = request_of(gateway.token(), **fields)

    with pytest.raises(InvalidRequestError, match="at most 1,000 headers"):
        gateway.servicer.check(request, b"")


def test_scopes_that_take_long_to_check_are_left_to_a_thread(gateway: Gateway) -> None:
    request = request_of(gateway.token())
    request.attributes.context_extensions["scopes"] = "a " * 1025

    assert gateway.servicer.check_now(request, b"") is None
    with pytest.raises(InvalidRequestError):
        gateway.servicer.check(request, b"")


def test_a_token_that_takes_long_to_verify_is_left_to_a_thread(gateway: Gateway) -> None:
    encrypted = "a.b.c.d.e"

    with pytest.raises(StoreReadRequiredError):
        gateway.servicer.check_now(request_of(encrypted), b"")
    answer = CheckResponse.FromString(gateway.servicer.check(request_of(encrypted), b""))
    assert answer.HasField("denied_response")
