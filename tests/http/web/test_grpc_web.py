"""gRPC-Web on both engines: calls by connect-web, and calls whose bytes the test writes."""

import base64

import pytest

from identityapi.v1 import identity_service_pb2 as pb
from tests.http.site import Site
from tests.http.web.grpc_web import IDENTITY, ORIGIN, WebClient, framed, frames, post, unarmoured
from tests.rpc.world import API, PASSWORD

pytestmark = pytest.mark.settings(web_origins=(ORIGIN,))

FOREIGN = "https://evil.example"
ALLOWED_HEADERS = {
    "content-type",
    "x-grpc-web",
    "x-user-agent",
    "authorization",
    "dpop",
    "x-request-id",
    "grpc-timeout",
    "traceparent",
    "tracestate",
}
EXPOSED_HEADERS = {"grpc-status", "grpc-message", "grpc-status-details-bin", "x-request-id", "dpop-nonce"}
VERIFY = framed(pb.VerifyRequest(token="no token", audiences=[API]))


def sign_in(password: str = PASSWORD) -> object:
    return {"credential": {"password": {"username": "ana", "password": password}}, "audiences": [API]}


def listed(value: str) -> set[str]:
    return set(value.replace(" ", "").split(","))


def preflight(site: Site, origin: str) -> tuple[int, dict[str, str]]:
    answer = site.request(
        "OPTIONS",
        IDENTITY + "Issue",
        origin=origin,
        access_control_request_method="POST",
        access_control_request_headers="authorization,content-type,x-grpc-web",
    )
    return answer.status, answer.headers


def test_connect_web_signs_in_verifies_refreshes_and_revokes(site: Site, client: WebClient) -> None:
    site.world.new_user()

    tokens = client.call(site, "IdentityService", "issue", sign_in())["response"]["token_set"]
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    verify = {"token": tokens["access_token"], "audiences": [API]}
    ask = {"service": "identityapi.v1.IdentityService", "headers": bearer}
    before, refreshed, revoked = client.calls(
        site,
        ask | {"method": "verify", "request": verify},
        ask | {"method": "refresh", "request": {"refresh_token": tokens["refresh_token"]}},
        ask | {"method": "revoke", "request": {"token": tokens["access_token"]}},
    )

    assert before["response"]["verified"]["audiences"] == [API]
    assert refreshed["response"]["token_set"]["session_id"] == tokens["session_id"]
    assert revoked["response"]["revision"]
    assert site.world.reason(tokens["access_token"]) == "REVOKED"


def test_connect_web_sees_the_status_and_the_details_of_a_refusal(site: Site, client: WebClient) -> None:
    site.world.new_user()

    refused = client.call(site, "IdentityService", "issue", sign_in("wrong"), headers={"x-request-id": "r-7"})

    assert refused["code"] == 16  # UNAUTHENTICATED
    assert b"CREDENTIAL" in base64.b64decode(refused["metadata"]["grpc-status-details-bin"] + "==")
    assert refused["metadata"]["x-request-id"] == "r-7"


def test_connect_web_follows_a_stream(site: Site, client: WebClient) -> None:
    caller = site.world.admin_token()

    followed = client.call(
        site, "TrustService", "watch", {}, take=1, headers={"Authorization": f"Bearer {caller}"}
    )

    assert len(followed["responses"]) == 1


def test_a_call_in_base64_is_answered_in_base64(site: Site) -> None:
    answer = post(site, "Verify", base64.b64encode(VERIFY), text=True, origin=ORIGIN)

    messages, trailers = frames(unarmoured(answer.body))
    assert answer.headers["content-type"].startswith("application/grpc-web-text")
    assert pb.VerifyResponse.FromString(messages[0]).rejected.reason == pb.REJECTION_REASON_MALFORMED
    assert trailers["grpc-status"] == "0"


@pytest.mark.parametrize("body", [b"AAAA=AAA", b"AAA", b"!!!!"])
def test_a_body_that_is_not_base64_is_refused(site: Site, body: bytes) -> None:
    answer = post(site, "Verify", body, text=True, origin=ORIGIN)

    assert answer.status == 400 or answer.headers.get("grpc-status") not in (None, "0")


def test_a_page_of_an_allowed_origin_may_read_the_answer(site: Site) -> None:
    answer = post(site, "Verify", VERIFY, origin=ORIGIN)

    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert listed(answer.headers["access-control-expose-headers"]) == EXPOSED_HEADERS
    assert frames(answer.body)[1]["grpc-status"] == "0"


def test_a_preflight_of_an_allowed_origin_names_the_headers_that_a_page_may_send(site: Site) -> None:
    status, headers = preflight(site, ORIGIN)

    assert status in (200, 204)
    assert headers["access-control-allow-origin"] == ORIGIN
    assert listed(headers["access-control-allow-headers"]) == ALLOWED_HEADERS
    assert headers["access-control-allow-methods"] == "POST"
    assert "access-control-allow-credentials" not in headers


@pytest.mark.parametrize("origin", [FOREIGN, "null", f"{ORIGIN}.evil.example", f"{ORIGIN}:8443"])
def test_a_call_and_a_preflight_of_a_foreign_origin_are_refused(site: Site, origin: str) -> None:
    site.world.new_user()
    request = pb.IssueRequest(credential=site.world.user().credential, audiences=[API])

    called = post(site, "Issue", framed(request), origin=origin)
    status, headers = preflight(site, origin)

    assert (called.status, status) == (403, 403)
    assert called.headers["content-type"].startswith("text/plain")
    assert not any(name.startswith("access-control-") for name in (*called.headers, *headers))


def test_a_path_in_disguise_does_not_hide_a_call_of_a_foreign_origin(site: Site) -> None:
    path = IDENTITY.replace("identity", "%69dentity") + "Verify"

    answer = site.request("POST", path, VERIFY, content_type="application/grpc-web", origin=FOREIGN)

    assert answer.status == 403


@pytest.mark.parametrize("method", ["envoy.service.auth.v3.Authorization/Check", "identityapi.v2.Any/Call"])
def test_other_services_are_not_served_to_pages(site: Site, method: str) -> None:
    answer = site.request("POST", f"/{method}", bytes(5), content_type="application/grpc-web", origin=ORIGIN)

    assert answer.status in (403, 404)


def test_a_call_of_a_program_without_an_origin_is_answered(site: Site) -> None:
    answer = post(site, "Verify", VERIFY)

    assert frames(answer.body)[1]["grpc-status"] == "0"
    assert "access-control-allow-origin" not in answer.headers


def test_a_message_over_the_limit_is_refused(site: Site) -> None:
    answer = post(site, "Verify", b"\0" + (2**24 + 1).to_bytes(4, "big"), origin=ORIGIN)

    assert answer.headers.get("grpc-status") == "8"  # RESOURCE_EXHAUSTED


def test_the_http_api_on_the_same_port_stays_without_cors(site: Site) -> None:
    answer = site.get("/livez", origin=ORIGIN)

    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers
