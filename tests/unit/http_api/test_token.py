"""The token endpoint: every grant, each with its client authentication and its errors."""

import pytest

from identity_service.domain.origin import Origin, PeerCertificate
from identity_service.domain.principals import Grant
from identity_service.http_api.oauth import token
from identity_service.services.authenticate import Authenticator, ClientCredential
from identity_service.services.client_proofs import AuthenticatedClient
from tests.jwts import assertion_claims
from tests.unit.http_api.oauth_site import (
    ASSERTION_TYPE,
    ISSUER,
    KEY,
    OTHER_ISSUER,
    PASSWORD,
    TOKEN_URL,
    Site,
    basic,
)

NO_STORE = {"Cache-Control": ["no-store"], "Pragma": ["no-cache"], "Content-Type": ["application/json"]}


# client_credentials


def test_client_credentials_give_a_bearer_token_and_no_refresh_token(site: Site) -> None:
    site.new_client()

    answer = site.client_token(scope="read")

    assert answer.status == 200
    assert answer.headers == NO_STORE
    assert answer.json == {
        "access_token": answer.json["access_token"],
        "token_type": "Bearer",
        "expires_in": 900,
        "scope": "read",
    }


def test_the_scope_is_answered_also_if_none_was_requested(site: Site) -> None:
    site.new_client()
    site.new_client("plain", scopes=set())

    assert site.client_token().json["scope"] == "read write"
    assert site.client_token("plain").json["scope"] == ""


@pytest.mark.parametrize("name", ["audience", "resource"])
def test_audiences_come_from_both_parameters(site: Site, name: str) -> None:
    site.new_client(audiences={"api", "billing", "mail"})
    params = [("grant_type", "client_credentials"), ("audience", "api"), (name, "billing"), (name, "billing")]

    issued = site.token(params, authorization=site.basic("reports")).json["access_token"]

    assert site.introspect(issued).json["aud"] == ["api", "billing"]


def test_a_client_that_sends_its_id_and_secret_raw_is_authenticated(site: Site) -> None:
    """Several libraries do not form-encode id and secret, so the colons of an id are sent as they are."""
    site.new_client("team:reports")
    header = basic("team:reports", site.secrets["team:reports"], encode=False)

    assert site.token({"grant_type": "client_credentials"}, authorization=header).status == 200


def test_a_client_is_authenticated_by_its_secret_in_the_body(site: Site) -> None:
    site.new_client()
    params = {"client_id": "reports", "client_secret": site.secrets["reports"]}

    assert site.token({"grant_type": "client_credentials", **params}).status == 200


@pytest.mark.parametrize("audience", [ISSUER, TOKEN_URL])
@pytest.mark.parametrize("named", [{}, {"client_id": "batch"}])
def test_a_client_is_authenticated_by_an_assertion(site: Site, audience: str, named: dict[str, str]) -> None:
    site.new_client("batch", public_keys=(KEY.public_jwk,))

    assert site.token(_asserting(site.assertion("batch", aud=audience)) | named).status == 200


@pytest.mark.parametrize(
    "audience", [f"{ISSUER}/", f"{ISSUER}/oauth2/revoke", "identity-service", [TOKEN_URL]]
)
def test_an_assertion_for_anything_else_is_refused(site: Site, audience: object) -> None:
    """A list of audiences is refused as well: a receiver among them could present the assertion here."""
    site.new_client("batch", public_keys=(KEY.public_jwk,))

    assert site.token(_asserting(site.assertion("batch", aud=audience))).error == "invalid_client"


def test_an_assertion_of_another_client_than_the_named_one_is_refused_and_stays_unused(site: Site) -> None:
    site.new_client("batch", public_keys=(KEY.public_jwk,))
    params = _asserting(site.assertion("batch"))

    assert site.token(params | {"client_id": "gateway"}).error == "invalid_client"
    assert site.token(params).status == 200


def test_an_assertion_works_once(site: Site) -> None:
    site.new_client("batch", public_keys=(KEY.public_jwk,))
    params = _asserting(site.assertion("batch"))

    assert [site.token(params).status for _ in range(2)] == [200, 401]


@pytest.mark.parametrize("client_id", ["reports", "nobody"])
def test_a_wrong_secret_is_answered_as_an_unknown_client_is(site: Site, client_id: str) -> None:
    site.new_client()

    answer = site.token({"grant_type": "client_credentials"}, authorization=basic(client_id, "wrong"))

    assert (answer.status, answer.json) == (
        401,
        {"error": "invalid_client", "error_description": "the client authentication was refused"},
    )
    assert answer.headers["WWW-Authenticate"] == ['Basic realm="identity-service"']
    assert answer.headers["Cache-Control"] == ["no-store"]
    assert [event["reason"] for event in site.audited("issue_refused")] == ["CREDENTIAL_REFUSED"]


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"scope": "admin"}, "invalid_scope"),
        ({"scope": "identity.unknown"}, "invalid_scope"),
        ({"scope": 'a"b'}, "invalid_scope"),
        ({"scope": "x " * 101}, "invalid_scope"),
        ({"audience": "billing"}, "invalid_target"),
        ({"resource": "https://billing.example"}, "invalid_target"),
        ({"audience": "a b"}, "invalid_target"),
    ],
)
def test_a_client_gets_no_more_than_it_may_have(site: Site, params: dict[str, str], error: str) -> None:
    site.new_client()

    answer = site.client_token(**params)

    assert (answer.status, answer.error) == (400, error)


def test_a_client_with_several_audiences_must_name_one(site: Site) -> None:
    site.new_client(audiences={"api", "billing"})

    assert site.client_token().error == "invalid_target"


def test_a_client_without_the_grant_is_unauthorized(site: Site) -> None:
    site.new_app()

    assert site.client_token("portal").error == "unauthorized_client"


@pytest.mark.parametrize("grant_type", ["client_credentials", token.TOKEN_EXCHANGE])
def test_a_client_that_is_only_named_gets_no_token_of_its_own(site: Site, grant_type: str) -> None:
    site.new_client("spa", public=True, grants={Grant.PASSWORD})
    params = {"subject_token": "x", "subject_token_type": token.ACCESS_TOKEN_TYPE}

    answer = site.token({"grant_type": grant_type, "client_id": "spa", **params})

    assert (answer.status, answer.error) == (401, "invalid_client")


# password


def test_a_user_signs_in_through_a_confidential_client(site: Site) -> None:
    site.new_app()
    user = site.new_user()

    answer = site.sign_in(scope="read")

    assert answer.status == 200
    assert answer.json["refresh_token"].startswith("idrt_")
    assert site.introspect(answer.json["access_token"]).json["sub"] == user


@pytest.mark.parametrize("with_header", [True, False])
def test_a_user_signs_in_through_a_public_client(site: Site, with_header: bool) -> None:
    """Libraries send a public client's id as a parameter, or in a header with an empty secret."""
    site.new_app("spa", public=True)
    site.new_user()
    params = {"grant_type": "password", "username": "ana", "password": PASSWORD}

    if with_header:
        answer = site.token(params, authorization=basic("spa", ""))
    else:
        answer = site.token(params | {"client_id": "spa"})

    assert answer.status == 200


def test_a_user_signs_in_through_a_client_that_signs_an_assertion(site: Site) -> None:
    site.new_app("batch", public_keys=(KEY.public_jwk,))
    site.new_user()
    params = _asserting(site.assertion("batch"), "password")

    assert site.token(params | {"username": "ana", "password": PASSWORD}).status == 200


@pytest.mark.parametrize("username", ["ana", "nobody"])
def test_a_wrong_password_is_answered_as_an_unknown_user_is(site: Site, username: str) -> None:
    site.new_app()
    site.new_user()

    answer = site.sign_in(username=username, password="wrong")

    assert (answer.status, answer.json) == (
        400,
        {"error": "invalid_grant", "error_description": "the credential was refused"},
    )


@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
def test_a_wrong_client_learns_nothing_about_the_password(site: Site, password: str) -> None:
    site.new_app()
    site.new_user()
    params = {"grant_type": "password", "username": "ana", "password": password}

    answers = [
        site.token(params, authorization=basic("portal", "wrong")),
        site.token(params | {"client_id": "portal"}),
    ]

    assert [answer.error for answer in answers] == ["invalid_client", "invalid_grant"]
    assert site.audited("issue_refused")[0]["target"] == "portal"


@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
def test_a_client_without_the_grant_learns_nothing_about_the_password(site: Site, password: str) -> None:
    site.new_client("reports")
    site.new_user()

    assert site.sign_in("reports", password=password).error == "unauthorized_client"


def test_a_revocation_between_the_client_and_the_password_is_not_escaped(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generations are read before the password is checked: the revocation ends the new session, too."""
    site.new_app()
    site.new_user()
    authenticate = site.use.authenticator.client

    def raced(_: Authenticator, credential: ClientCredential, origin: Origin) -> AuthenticatedClient:
        proven = authenticate(credential, origin)
        site.revoke_all_of("portal")
        return proven

    monkeypatch.setattr(Authenticator, "client", raced)

    assert site.sign_in().error == "invalid_grant"


@pytest.mark.parametrize("missing", ["username", "password"])
def test_a_sign_in_needs_both(site: Site, missing: str) -> None:
    site.new_app()

    answer = site.sign_in(**{missing: ""})

    assert answer.json == {
        "error": "invalid_request",
        "error_description": f"the parameter {missing} is missing",
    }


def test_a_username_with_control_characters_is_invalid(site: Site) -> None:
    """Control characters could hide or change the text around the name, for example in a log."""
    site.new_app()

    assert site.sign_in(username="ana\x1b[2J").error == "invalid_request"


def test_too_many_wrong_passwords_are_answered_with_the_time_to_wait(site: Site) -> None:
    site.new_app()
    site.new_user()
    answers = [site.sign_in(password="wrong") for _ in range(7)]

    assert [answer.status for answer in answers[:5]] == [400] * 5
    assert (answers[-1].status, answers[-1].error) == (429, "temporarily_unavailable")
    assert int(answers[-1].headers["Retry-After"][0]) >= 1


# refresh_token


@pytest.mark.parametrize("public", [True, False])
def test_a_refresh_rotates_the_token(site: Site, public: bool) -> None:
    site.new_app(public=public)
    site.new_user()
    first = site.sign_in().json["refresh_token"]

    answer = site.refresh(first, scope="read")

    assert (answer.status, answer.json["scope"]) == (200, "read")
    assert answer.json["refresh_token"] != first


def test_a_lost_reply_is_repeated_with_the_same_successor(site: Site) -> None:
    site.new_app()
    site.new_user()
    first = site.sign_in().json["refresh_token"]

    successors = {site.refresh(first).json["refresh_token"] for _ in range(3)}

    assert len(successors) == 1


@pytest.mark.parametrize("text", ["idrt_x", "not one", "x" * 60_000])
def test_a_text_that_is_no_refresh_token_is_an_invalid_grant(site: Site, text: str) -> None:
    site.new_app()

    assert (site.refresh(text).status, site.refresh(text).error) == (400, "invalid_grant")


def test_a_session_that_has_ended_is_an_invalid_grant(site: Site) -> None:
    site.new_app()
    site.new_user()
    refresh_token = site.sign_in().json["refresh_token"]
    site.revoke(refresh_token, "portal")

    assert site.refresh(refresh_token).error == "invalid_grant"


def test_another_client_cannot_use_a_refresh_token(site: Site) -> None:
    for name, public in (("portal", False), ("spa", True), ("other", False), ("other-spa", True)):
        site.new_app(name, public=public)
    site.new_user()
    of_portal, of_spa = (site.sign_in(name).json["refresh_token"] for name in ("portal", "spa"))

    assert site.refresh(of_portal, "other").error == "invalid_grant"
    assert site.refresh(of_spa, "other-spa").error == "invalid_grant"
    assert site.refresh(of_portal).status == site.refresh(of_spa, "spa").status == 200


def test_a_confidential_client_must_authenticate_itself_to_refresh(site: Site) -> None:
    site.new_app()
    site.new_user()
    params = {"grant_type": "refresh_token", "refresh_token": site.sign_in().json["refresh_token"]}

    named = site.token(params | {"client_id": "portal"})
    wrong = site.token(params, authorization=basic("portal", "wrong"))

    assert [(answer.status, answer.error) for answer in (named, wrong)] == [(401, "invalid_client")] * 2


# token-exchange


@pytest.fixture
def exchanging(site: Site) -> Site:
    """Return a service with a client `reports`, whose tokens the client `backend` may exchange."""
    site.new_client()
    site.new_client(
        "backend",
        grants={Grant.TOKEN_EXCHANGE, Grant.CLIENT_CREDENTIALS},
        exchange_audiences={"api"},
        audiences={"billing"},
    )
    return site


def test_an_exchange_names_the_actor_and_the_type_of_the_token(exchanging: Site) -> None:
    subject_token = exchanging.client_token().json["access_token"]

    answer = exchanging.exchange(subject_token, "backend", scope="read")

    facts = exchanging.introspect(answer.json["access_token"]).json
    assert answer.json["issued_token_type"] == token.ACCESS_TOKEN_TYPE
    assert (facts["sub"], facts["act"]) == ("reports", {"sub": "backend", "client_id": "backend"})
    assert "refresh_token" not in answer.json


def test_an_exchange_may_name_an_actor(exchanging: Site) -> None:
    subject_token = exchanging.client_token().json["access_token"]
    actor = exchanging.client_token("backend").json["access_token"]
    params = {"actor_token": actor, "actor_token_type": token.ACCESS_TOKEN_TYPE}

    assert exchanging.exchange(subject_token, "backend", **params).status == 200


@pytest.mark.parametrize(
    "params",
    [
        {"subject_token": "x"},
        {"subject_token": ""},
        {"subject_token_type": ""},
        {"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
        {"actor_token": "x"},
        {"actor_token_type": token.ACCESS_TOKEN_TYPE},
        {"subject_token": "", "subject_token_type": ""},
    ],
)
def test_a_wrong_token_makes_an_exchange_an_invalid_request(exchanging: Site, params: dict[str, str]) -> None:
    subject_token = exchanging.client_token().json["access_token"]

    answer = exchanging.exchange(subject_token, "backend", **params)

    assert (answer.status, answer.error) == (400, "invalid_request")


def test_an_exchange_needs_the_credential_of_the_client(exchanging: Site) -> None:
    subject_token = exchanging.client_token().json["access_token"]
    exchanging.secrets["backend"] = "wrong"

    answer = exchanging.exchange(subject_token, "backend")

    assert (answer.status, answer.error) == (401, "invalid_client")


def test_an_exchange_gives_only_what_the_client_may_pass_on(exchanging: Site) -> None:
    subject_token = exchanging.client_token(scope="read").json["access_token"]

    assert exchanging.exchange(subject_token, "backend", audience="mail").error == "invalid_target"
    assert exchanging.exchange(subject_token, "backend", scope="write").error == "invalid_scope"
    assert exchanging.exchange(subject_token, "gateway").error == "unauthorized_client"


# jwt-bearer


def test_a_token_of_a_trusted_issuer_is_a_grant(site: Site) -> None:
    site.new_client()
    site.trust_issuer()

    assert site.token(_bearing(site)).status == 200
    assert site.token(_bearing(site) | {"client_id": "reports"}).status == 200


def test_a_token_that_is_assigned_to_another_client_than_the_named_one_is_refused(site: Site) -> None:
    site.new_client()
    site.trust_issuer()

    assert site.token(_bearing(site) | {"client_id": "gateway"}).error == "invalid_grant"


def test_an_assertion_that_is_not_trusted_is_an_invalid_grant(site: Site) -> None:
    site.new_client()

    answer = site.token(_bearing(site))

    assert (answer.status, answer.error) == (400, "invalid_grant")


def test_a_grant_by_assertion_takes_no_client_authentication(site: Site) -> None:
    """The assertion alone decides which client gets the token, so other credentials would have no effect."""
    site.new_client()
    site.trust_issuer()

    assert site.token(_bearing(site), authorization=site.basic("reports")).error == "invalid_request"


def test_a_grant_by_assertion_does_not_check_the_certificate_of_the_connection(site: Site) -> None:
    site.new_client()
    site.trust_issuer()
    shown = Origin(peer="192.0.2.7:4711", certificate=PeerCertificate(sha256=bytes(32)))

    assert site.token(_bearing(site) | {"client_id": "reports"}, origin=shown).status == 200


# All grants


def test_an_unknown_grant_is_named(site: Site) -> None:
    answer = site.token({"grant_type": "authorization_code", "code": "x"})

    assert (answer.status, answer.error) == (400, "unsupported_grant_type")


@pytest.mark.parametrize(
    "grant_type", ["client_credentials", "password", "refresh_token", token.TOKEN_EXCHANGE]
)
def test_a_request_that_names_no_client_is_refused(site: Site, grant_type: str) -> None:
    params = {
        "username": "ana",
        "password": PASSWORD,
        "refresh_token": "x",
        "subject_token": "x",
        "subject_token_type": token.ACCESS_TOKEN_TYPE,
    }

    answer = site.token({"grant_type": grant_type, **params})

    assert (answer.status, answer.error) == (401, "invalid_client")


def _asserting(assertion: str, grant_type: str = "client_credentials") -> dict[str, str]:
    return {
        "grant_type": grant_type,
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion,
    }


def _bearing(site: Site) -> dict[str, str]:
    claims = assertion_claims("", site.clock.now(), iss=OTHER_ISSUER, sub="a job", aud=ISSUER)
    return {"grant_type": token.JWT_BEARER, "assertion": KEY.jwt(claims)}
