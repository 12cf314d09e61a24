"""The revocation endpoint (RFC 7009): a client revokes its own tokens, and only those."""

import pytest

from identity_service.http_api import paths
from tests.unit.http_api.oauth_site import Site, basic


@pytest.fixture
def signed_in(site: Site) -> Site:
    """Return a service with a user and two clients for sign-ins, one confidential and one public."""
    site.new_app()
    site.new_app("spa", public=True)
    site.new_user()
    return site


@pytest.mark.parametrize("hint", ["", "access_token", "refresh_token", "nonsense"])
@pytest.mark.parametrize("client_id", ["portal", "spa"])
def test_a_refresh_token_ends_its_session_with_all_its_tokens(
    signed_in: Site, client_id: str, hint: str
) -> None:
    tokens = signed_in.sign_in(client_id).json

    answer = signed_in.revoke(tokens["refresh_token"], client_id, token_type_hint=hint)

    assert (answer.status, answer.json) == (200, {})
    assert answer.headers["Cache-Control"] == ["no-store"]
    assert not signed_in.is_active(tokens["access_token"])
    assert signed_in.refresh(tokens["refresh_token"], client_id).error == "invalid_grant"


def test_an_access_token_is_revoked_alone(signed_in: Site) -> None:
    tokens = signed_in.sign_in().json

    assert signed_in.revoke(tokens["access_token"], "portal").status == 200

    assert not signed_in.is_active(tokens["access_token"])
    assert signed_in.is_active(tokens["refresh_token"])


def test_a_revocation_may_be_repeated(signed_in: Site) -> None:
    token = signed_in.sign_in().json["refresh_token"]

    assert [signed_in.revoke(token, "portal").status for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("text", ["x", "a.b.c", "idrt_" + "A" * 80, "é"])
@pytest.mark.parametrize("client_id", ["portal", "spa", "nobody"])
def test_the_revocation_of_a_text_that_is_no_token_succeeds(
    signed_in: Site, client_id: str, text: str
) -> None:
    """The client is not authenticated, so it must not learn which clients exist."""
    assert signed_in.revoke(text, client_id).status == 200


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
@pytest.mark.parametrize("client_id", ["other", "spa"])
def test_the_token_of_another_client_is_not_revoked(signed_in: Site, client_id: str, kind: str) -> None:
    signed_in.new_client("other")
    token = signed_in.sign_in().json[kind]

    answer = signed_in.revoke(token, client_id)

    assert (answer.status, answer.error) == (400, "unauthorized_client")
    assert signed_in.is_active(token)
    (event,) = signed_in.audited("call_refused")
    assert (event["target"], event["reason"]) == (paths.REVOKE, "CALLER_SCOPE_MISSING")


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_a_client_with_the_scope_revokes_any_token_and_is_named_in_the_audit(
    signed_in: Site, kind: str
) -> None:
    signed_in.new_client("admin-ui", scopes={"identity.revoke"})
    token = signed_in.sign_in().json[kind]

    assert signed_in.revoke(token, "admin-ui").status == 200

    assert not signed_in.is_active(token)
    events = signed_in.audited("session_revoked") + signed_in.audited("token_revoked")
    assert [event["actor"] for event in events] == ["admin-ui"]


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_a_confidential_client_must_authenticate_itself(signed_in: Site, kind: str) -> None:
    token = signed_in.sign_in().json[kind]

    named = signed_in.post(paths.REVOKE, {"token": token, "client_id": "portal"})
    wrong = signed_in.post(paths.REVOKE, {"token": token}, authorization=basic("portal", "wrong"))
    unnamed = signed_in.post(paths.REVOKE, {"token": token})

    assert [answer.error for answer in (named, wrong, unnamed)] == ["invalid_client"] * 3
    assert {answer.status for answer in (named, wrong, unnamed)} == {401}
    assert signed_in.is_active(token)


def test_a_request_without_a_token_is_invalid(signed_in: Site) -> None:
    assert signed_in.revoke("", "portal").error == "invalid_request"


def test_a_token_that_this_service_cannot_open_is_of_an_unsupported_type(signed_in: Site) -> None:
    answer = signed_in.revoke("e30.e30.e30.e30.e30", "portal")

    assert (answer.status, answer.error) == (400, "unsupported_token_type")
