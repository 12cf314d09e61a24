"""The introspection endpoint (RFC 7662): it describes valid tokens, and says nothing about others."""

import json
from datetime import timedelta
from typing import Any

import pytest

from identity_service.domain.errors import ReplicaStaleError
from identity_service.domain.grants import GrantRequest
from identity_service.domain.ids import PrincipalId
from identity_service.domain.origin import Origin, PeerCertificate
from identity_service.domain.principals import Grant
from identity_service.domain.secret import Secret
from identity_service.http_api import paths
from identity_service.http_api.messages import HttpResponse
from identity_service.http_api.oauth.answers import inactive_response
from identity_service.services.authenticate import ClientSecret
from identity_service.services.issue import IssueRequest
from tests.unit.http_api.oauth_site import ISSUER, Site

NOTHING = {"active": False}


# Access tokens


def test_a_valid_access_token_is_answered_with_its_claims(site: Site) -> None:
    site.new_client()
    issued = site.client_token().json["access_token"]

    facts = site.introspect(issued).json

    now = int(site.clock.now().timestamp())
    assert facts == {
        "active": True,
        "iss": ISSUER,
        "sub": "reports",
        "aud": ["api"],
        "client_id": "reports",
        "scope": "read write",
        "exp": now + 900,
        "iat": now,
        "jti": facts["jti"],
        "token_type": "Bearer",
    }


def test_the_token_of_a_user_names_the_session_and_the_sign_in(site: Site) -> None:
    site.new_app()
    user = site.new_user()

    facts = site.introspect(site.sign_in().json["access_token"]).json

    assert (facts["sub"], facts["auth_time"]) == (user, int(site.clock.now().timestamp()))
    assert facts["sid"]


def test_extra_claims_are_answered_unless_they_would_mean_something_else_here(site: Site) -> None:
    site.new_client()
    extra = {"tenant": "t1", "active": False, "username": "root", "token_type": "N_A", "exp": 1}
    issued = _issued(site, extra)

    facts = site.introspect(issued).json

    assert (facts["active"], facts["token_type"], facts["tenant"]) == (True, "Bearer", "t1")
    assert "username" not in facts
    assert facts["exp"] > 1


def test_the_generations_of_a_token_stay_inside(site: Site) -> None:
    site.new_client()
    site.revoke_all_of("reports")

    facts = site.introspect(site.client_token().json["access_token"]).json

    assert facts["active"] is True
    assert "gen" not in facts


def test_a_bound_token_is_answered_with_its_binding_for_the_caller_to_check(site: Site) -> None:
    site.new_client(require_binding=True)
    certificate = PeerCertificate(sha256=b"x" * 32)
    issued = site.token(
        {"grant_type": "client_credentials"},
        authorization=site.basic("reports"),
        origin=Origin(peer="192.0.2.7:1", certificate=certificate),
    ).json["access_token"]

    assert set(site.introspect(issued).json["cnf"]) == {"x5t#S256"}


@pytest.mark.parametrize("hint", ["", "access_token", "refresh_token", "nonsense"])
def test_a_hint_never_hides_an_access_token(site: Site, hint: str) -> None:
    site.new_client()

    assert site.introspect(site.client_token().json["access_token"], token_type_hint=hint).json["active"]


@pytest.mark.parametrize("text", ["x", "a.b.c", "idrt_x", "é", "x" * 60_000])
def test_a_text_that_is_no_token_is_inactive(site: Site, text: str) -> None:
    assert site.introspect(text, token_type_hint="refresh_token").json == NOTHING


def test_an_expired_token_is_inactive(site: Site) -> None:
    site.new_client()
    issued = site.client_token().json["access_token"]

    site.clock.advance(timedelta(minutes=20))
    site.replica.heartbeat("tests")

    assert site.introspect(issued).json == NOTHING


def test_a_revoked_token_is_inactive(site: Site) -> None:
    site.new_client()
    issued = site.client_token().json["access_token"]
    assert site.revoke(issued, "reports").status == 200

    answer = site.introspect(issued)

    assert answer.json == NOTHING
    assert answer.headers["Cache-Control"] == ["no-store"]


# Refresh tokens


@pytest.fixture
def refreshing(site: Site) -> Site:
    site.new_app()
    site.new_user()
    return site


def test_a_refresh_token_is_answered_as_one_for_this_service_and_is_not_used(refreshing: Site) -> None:
    signed_in = refreshing.sign_in().json

    facts = refreshing.introspect(signed_in["refresh_token"], token_type_hint="refresh_token").json

    access = refreshing.introspect(signed_in["access_token"]).json
    assert facts == {
        "active": True,
        "iss": ISSUER,
        "sub": access["sub"],
        "aud": [ISSUER],
        "client_id": "portal",
        "scope": "read write",
        "exp": int((refreshing.clock.now() + timedelta(days=30)).timestamp()),
        "sid": access["sid"],
        "auth_time": access["auth_time"],
    }
    assert refreshing.refresh(signed_in["refresh_token"]).status == 200


@pytest.mark.parametrize("hint", ["", "access_token"])
def test_a_resource_that_asks_for_access_tokens_takes_no_refresh_token_for_one(
    refreshing: Site, hint: str
) -> None:
    refresh_token = refreshing.sign_in().json["refresh_token"]

    assert refreshing.introspect(refresh_token, token_type_hint=hint).json == NOTHING


def test_a_refresh_token_is_active_for_as_long_as_it_would_be_accepted(refreshing: Site) -> None:
    first = refreshing.sign_in().json["refresh_token"]
    second = refreshing.refresh(first).json["refresh_token"]

    assert refreshing.is_active(first), "within the grace window its reply may be lost"
    assert refreshing.is_active(second)
    third = refreshing.refresh(second).json["refresh_token"]
    assert not refreshing.is_active(first), "it was replaced twice"
    assert refreshing.is_active(third)


def test_to_look_at_an_old_refresh_token_ends_no_session(refreshing: Site) -> None:
    first = refreshing.sign_in().json["refresh_token"]
    second = refreshing.refresh(first).json["refresh_token"]
    third = refreshing.refresh(second).json["refresh_token"]
    refreshing.clock.advance(timedelta(minutes=5))
    refreshing.replica.heartbeat("tests")

    assert not refreshing.is_active(first)
    assert refreshing.refresh(third).status == 200


def test_a_refresh_token_of_an_ended_session_is_inactive(refreshing: Site) -> None:
    refresh_token = refreshing.sign_in().json["refresh_token"]
    refreshing.revoke(refresh_token, "portal")

    assert not refreshing.is_active(refresh_token)


@pytest.mark.parametrize("change", ["disabled", "grants", "audiences"])
def test_a_refresh_token_whose_client_may_not_use_it_is_inactive(refreshing: Site, change: str) -> None:
    refresh_token = refreshing.sign_in().json["refresh_token"]
    changes: dict[str, dict[str, Any]] = {
        "disabled": {"disabled": True},
        "grants": {"grants": frozenset({Grant.PASSWORD})},
        "audiences": {"audiences": frozenset({"billing"})},
    }

    refreshing.update_client("portal", **changes[change])

    assert not refreshing.is_active(refresh_token)


def test_a_refresh_token_is_not_looked_up_with_stale_data(refreshing: Site) -> None:
    """The operator can let Verify answer with stale data; introspection of refresh tokens never does."""
    refresh_token = Secret(refreshing.sign_in().json["refresh_token"])
    refreshing.clock.advance(timedelta(minutes=1))

    with pytest.raises(ReplicaStaleError):
        refreshing.use.introspector.refresh_token(refresh_token)


# Callers


def test_a_caller_may_show_an_access_token_with_the_scope(site: Site) -> None:
    site.new_client()
    issued = site.client_token().json["access_token"]
    caller = site.client_token("gateway", scope="identity.verify").json["access_token"]

    answer = site.post(paths.INTROSPECT, {"token": issued}, authorization=f"Bearer {caller}")

    assert answer.json["active"] is True


def test_a_caller_whose_token_lacks_the_scope_is_told_which(site: Site) -> None:
    site.new_client(audiences={"identity-service"})
    issued = site.client_token().json["access_token"]

    answer = site.post(paths.INTROSPECT, {"token": issued}, authorization=f"Bearer {issued}")

    assert (answer.status, answer.error) == (403, "insufficient_scope")
    assert answer.headers["WWW-Authenticate"] == [
        'Bearer realm="identity-service", error="insufficient_scope", scope="identity.verify"'
    ]
    assert [event["reason"] for event in site.audited("call_refused")] == ["CALLER_SCOPE_MISSING"]


@pytest.mark.parametrize("kind", ["for another audience", "malformed", "empty"])
def test_a_caller_whose_token_is_not_valid_is_told_so(site: Site, kind: str) -> None:
    site.new_client()
    issued = site.client_token().json["access_token"]
    shown = {"for another audience": issued, "malformed": "x", "empty": ""}[kind]

    answer = site.post(paths.INTROSPECT, {"token": issued}, authorization=f"Bearer {shown}")

    assert (answer.status, answer.error) == (401, "invalid_token")
    assert answer.headers["WWW-Authenticate"] == ['Bearer realm="identity-service", error="invalid_token"']
    assert site.audited("call_refused")[0]["reason"] == "CALLER_UNAUTHENTICATED"


def test_a_client_without_the_scope_is_unauthorized(site: Site) -> None:
    site.new_client()
    issued = site.client_token().json["access_token"]

    answer = site.introspect(issued, "reports")

    assert (answer.status, answer.error) == (400, "unauthorized_client")
    (event,) = site.audited("call_refused")
    assert (event["target"], event["reason"]) == (paths.INTROSPECT, "CALLER_SCOPE_MISSING")


@pytest.mark.parametrize("params", [{}, {"client_id": "gateway"}])
def test_a_caller_must_authenticate_itself(site: Site, params: dict[str, str]) -> None:
    answer = site.post(paths.INTROSPECT, {"token": "x", **params})

    assert (answer.status, answer.error) == (401, "invalid_client")


def test_a_caller_with_a_wrong_secret_is_refused_and_leaves_an_event(site: Site) -> None:
    site.secrets["gateway"] = "wrong"

    assert site.introspect("x").error == "invalid_client"

    (event,) = site.audited("call_refused")
    assert (event["target"], event["reason"]) == ("gateway", "CREDENTIAL_REFUSED")


def test_a_caller_shows_one_credential_only(site: Site) -> None:
    params = {"token": "x", "client_id": "gateway", "client_secret": site.secrets["gateway"]}

    assert site.post(paths.INTROSPECT, params, authorization="Bearer x").error == "invalid_request"
    caller = site.client_token("gateway", scope="identity.verify").json["access_token"]
    twice = (f"Bearer {caller}", f"Bearer {caller}")
    assert site.post(paths.INTROSPECT, {"token": "x"}, authorization=twice).error == "invalid_request"


def test_a_request_without_a_token_is_invalid(site: Site) -> None:
    answer = site.introspect("")

    assert (answer.status, answer.error) == (400, "invalid_request")


@pytest.mark.parametrize("authorized", [True, False])
def test_a_process_whose_data_is_stale_says_neither_yes_nor_no(site: Site, authorized: bool) -> None:
    """A stale process may not know a new client, so it does not call the client's secret wrong either."""
    site.new_client()
    issued = site.client_token().json["access_token"]
    site.secrets["new"] = "of a client that this process does not know"
    site.clock.advance(timedelta(minutes=1))

    answer = site.introspect(issued, "gateway" if authorized else "new")

    assert (answer.status, answer.error) == (503, "temporarily_unavailable")
    assert int(answer.headers["Retry-After"][0]) >= 1


def test_the_answer_to_an_invalid_token_is_this_alone() -> None:
    response: HttpResponse = inactive_response()

    assert json.loads(response.body) == NOTHING


def _issued(site: Site, claims: dict[str, object]) -> str:
    credential = ClientSecret(client_id=PrincipalId("reports"), secret=Secret(site.secrets["reports"]))
    request = IssueRequest(credential=credential, grant=GrantRequest(), claims=claims)
    return site.use.issuer.issue(request).access_token
