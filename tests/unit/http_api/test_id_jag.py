"""The grant jwt-bearer with an ID-JAG: a client acts for a user of a trusted issuer, once per ID-JAG."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from identity_service.domain.credential_errors import IdJagRefusedError
from identity_service.domain.ids import PrincipalId, base64url
from identity_service.domain.issuers import TrustedIssuer, TrustRule, federated_id
from identity_service.domain.origin import Origin, PeerCertificate
from identity_service.domain.principals import Grant
from identity_service.domain.secret import Secret
from identity_service.http_api.oauth import token
from identity_service.services.authenticate import (
    Authenticator,
    ClientAssertion,
    ClientCredential,
    FederatedToken,
)
from identity_service.services.client_proofs import AuthenticatedClient
from identity_service.services.issue import IssueRequest
from tests.jwts import PartyKey, assertion_claims
from tests.unit.http_api.oauth_site import ASSERTION_TYPE, ISSUER, KEY, OTHER_ISSUER, PEER, Answer, Site

ANA = federated_id(OTHER_ISSUER, "ana")
RULE = TrustRule(claims={"client_id": "portal"}, client_id=PrincipalId("portal"), per_subject=True)


@pytest.fixture
def trusting(site: Site) -> Site:
    """Return a service whose client `portal` may act for the users of an issuer."""
    site.new_client("portal", audiences={"api"}, scopes={"read", "write"})
    trust(site)
    return site


def trust(site: Site, *rules: TrustRule, **changes: Any) -> None:
    jwks = json.dumps({"keys": [KEY.public()]})
    site.store.records.create(
        TrustedIssuer(issuer=OTHER_ISSUER, jwks=jwks, rules=rules or (RULE,), **changes)
    )
    site.replica.catch_up()


def claims_of(site: Site, **changes: object) -> dict[str, Any]:
    base = {"iss": OTHER_ISSUER, "sub": "ana", "aud": ISSUER, "client_id": "portal"}
    return assertion_claims("", site.clock.now(), **(base | changes))


def id_jag(site: Site, **changes: object) -> str:
    """Return an ID-JAG for the client `portal`, with these changes of its claims."""
    return KEY.jwt(claims_of(site, **changes), typ="oauth-id-jag+jwt")


def present(site: Site, jwt: str, client_id: str = "portal", **params: str) -> Answer:
    wanted = {"grant_type": token.JWT_BEARER, "assertion": jwt, **params}
    return site.token(wanted, authorization=site.basic(client_id))


def introspected(site: Site, answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.json
    return site.introspect(answer.json["access_token"]).json


# What it gives


def test_an_id_jag_gives_a_token_for_the_user_through_the_client(trusting: Site) -> None:
    answer = present(trusting, id_jag(trusting))

    said = introspected(trusting, answer)
    assert (said["sub"], said["client_id"], said["aud"]) == (ANA, "portal", ["api"])
    assert answer.json["scope"] == "read write"
    assert answer.json["resource"] == "api"
    assert answer.json["token_type"] == "Bearer"
    assert "refresh_token" not in answer.json


def test_a_token_for_two_resources_names_both(site: Site) -> None:
    site.new_client("portal", audiences={"api", "mail", "files"})
    trust(site)
    params = [("grant_type", token.JWT_BEARER), ("resource", "mail"), ("resource", "api")]
    params.append(("assertion", id_jag(site, resource=["api", "mail"])))

    answer = site.token(params, authorization=site.basic("portal"))

    assert answer.json["resource"] == ["mail", "api"] == introspected(site, answer)["aud"]


def test_a_token_is_bound_to_the_certificate_if_the_client_requires_it(trusting: Site) -> None:
    trusting.update_client("portal", require_binding=True)
    jwt = id_jag(trusting)
    assert present(trusting, jwt).error == "invalid_request", "the connection has no certificate"
    certificate = PeerCertificate(sha256=b"x" * 32, names=frozenset())

    answer = trusting.token(
        {"grant_type": token.JWT_BEARER, "assertion": jwt},
        authorization=trusting.basic("portal"),
        origin=replace(PEER, certificate=certificate),
    )

    assert introspected(trusting, answer)["cnf"] == {"x5t#S256": base64url(certificate.sha256)}


def test_a_client_that_signs_assertions_presents_an_id_jag(site: Site) -> None:
    site.new_client("portal", public_keys=(KEY.public_jwk,))
    trust(site)

    answer = site.token(
        {
            "grant_type": token.JWT_BEARER,
            "assertion": id_jag(site),
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": site.assertion("portal"),
        }
    )

    assert introspected(site, answer)["sub"] == ANA


@pytest.mark.parametrize("typ", ["OAuth-ID-JAG+JWT", "application/oauth-id-jag+jwt"])
def test_the_type_has_the_spellings_of_a_media_type(trusting: Site, typ: str) -> None:
    assert present(trusting, KEY.jwt(claims_of(trusting), typ=typ)).status == 200


def test_the_event_names_the_user_and_the_client(trusting: Site) -> None:
    present(trusting, id_jag(trusting))

    event = trusting.audited("token_issued")[-1]
    assert (event["actor"], event["target"], event["client_id"]) == (ANA, ANA, "portal")


@pytest.mark.parametrize("principal", [ANA, "portal"])
def test_a_token_ends_with_everything_of_its_user_or_of_its_client(trusting: Site, principal: str) -> None:
    issued = present(trusting, id_jag(trusting)).json["access_token"]
    assert trusting.is_active(issued)

    trusting.revoke_all_of(principal)

    assert not trusting.is_active(issued)
    assert introspected(trusting, present(trusting, id_jag(trusting)))["active"], "later ones are valid"


def test_a_revocation_between_the_client_and_the_id_jag_is_not_escaped(
    trusting: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generations are read before the credentials: the revocation revokes the new token, too."""
    authenticate = trusting.use.authenticator.client

    def raced(_: Authenticator, credential: ClientCredential, origin: Origin) -> AuthenticatedClient:
        proven = authenticate(credential, origin)
        trusting.revoke_all_of("portal")
        return proven

    monkeypatch.setattr(Authenticator, "client", raced)

    answer = present(trusting, id_jag(trusting))

    monkeypatch.undo()
    assert not trusting.is_active(answer.json["access_token"])


# The limits


@pytest.mark.parametrize(
    ("claims", "params", "scope"),
    [
        ({"scope": "read"}, {}, "read"),
        ({"scope": "read admin"}, {}, "read"),
        ({"scope": "read write"}, {"scope": "write"}, "write"),
        ({"scope": "admin"}, {}, ""),
    ],
)
def test_the_scope_is_within_the_id_jag_the_client_and_the_request(
    trusting: Site, claims: dict[str, str], params: dict[str, str], scope: str
) -> None:
    assert present(trusting, id_jag(trusting, **claims), **params).json["scope"] == scope


@pytest.mark.parametrize(
    ("claims", "params", "error"),
    [
        ({"scope": "read"}, {"scope": "write"}, "invalid_scope"),
        ({"scope": "read admin"}, {"scope": "admin"}, "invalid_scope"),
        ({"resource": "mail"}, {}, "invalid_target"),
        ({"resource": "mail"}, {"resource": "api"}, "invalid_target"),
        ({"resource": ["mail", "api"]}, {"resource": "mail"}, "invalid_target"),
        ({}, {"resource": "mail"}, "invalid_target"),
    ],
)
def test_a_request_beyond_a_limit_is_refused_and_leaves_the_id_jag_unused(
    trusting: Site, claims: dict[str, object], params: dict[str, str], error: str
) -> None:
    jwt = id_jag(trusting, **claims)

    assert present(trusting, jwt, **params).error == error

    trusting.update_client("portal", audiences=frozenset({"api", "mail"}))
    assert present(trusting, jwt, resource="mail" if "resource" in claims else "api").status == 200


def test_a_resource_of_the_id_jag_is_the_default_audience(site: Site) -> None:
    site.new_client("portal", audiences={"api", "mail", "files"})
    trust(site)

    assert introspected(site, present(site, id_jag(site, resource=["mail", "other"])))["aud"] == ["mail"]
    assert present(site, id_jag(site, resource=["mail", "api"])).error == "invalid_target"
    assert present(site, id_jag(site)).error == "invalid_target"


# Once


def test_an_id_jag_works_once_whatever_the_issuer_allows(trusting: Site) -> None:
    jwt = id_jag(trusting)
    assert present(trusting, jwt).status == 200

    again = present(trusting, jwt)

    assert (again.status, again.error) == (400, "invalid_grant")
    assert again.json["error_description"] == "the ID-JAG was refused: it was used before"
    assert trusting.audited("issue_refused")[-1]["target"] == "portal"


def test_an_id_jag_is_used_by_its_jti_and_not_by_its_text(trusting: Site) -> None:
    assert present(trusting, id_jag(trusting, jti="one")).status == 200
    assert present(trusting, id_jag(trusting, jti="one", sub="ben")).error == "invalid_grant"
    assert present(trusting, id_jag(trusting, jti="two")).status == 200


def test_an_id_jag_that_was_refused_is_not_used(trusting: Site) -> None:
    jwt = id_jag(trusting)
    wrong = trusting.token(
        {"grant_type": token.JWT_BEARER, "assertion": jwt, "client_id": "portal", "client_secret": "wrong"}
    )
    assert (wrong.status, wrong.error) == (401, "invalid_client")
    assert present(trusting, jwt, client_id="portal", scope="admin").error == "invalid_scope"
    assert present(trusting, jwt, "gateway").error == "invalid_grant"

    assert present(trusting, jwt).status == 200


# Refusals

_WRONG: dict[str, tuple[dict[str, object], str]] = {
    "another client": ({"client_id": "gateway"}, "client_id"),
    "no client": ({"client_id": None}, "client_id"),
    "another audience": ({"aud": "https://other.example"}, "aud"),
    "two audiences": ({"aud": [ISSUER, "https://other.example"]}, "aud"),
    "the token endpoint": ({"aud": f"{ISSUER}/oauth2/token"}, "aud"),
    "no jti": ({"jti": None}, "jti"),
    "no iat": ({"iat": None}, "iat"),
    "no exp": ({"exp": None}, "exp"),
    "expired": ({"exp": -11}, "expired"),
    "long": ({"exp": 3612}, "more than an hour"),
    "early": ({"nbf": 11}, "not valid yet"),
    "another issuer": ({"iss": "https://stranger.example"}, "issuer is not trusted"),
    "key": ({"cnf": {"jkt": "x"}}, "cnf"),
    "scope": ({"scope": ["read"]}, "scope"),
    "resource": ({"resource": []}, "resource"),
}


@pytest.mark.parametrize(("changes", "why"), _WRONG.values(), ids=_WRONG)
def test_a_wrong_id_jag_is_an_invalid_grant_that_says_why(
    trusting: Site, changes: dict[str, object], why: str
) -> None:
    answer = present(trusting, id_jag(trusting, **changes))

    assert (answer.status, answer.error) == (400, "invalid_grant")
    assert answer.json["error_description"].startswith("the ID-JAG was refused: ")
    assert why in answer.json["error_description"]
    event = trusting.audited("issue_refused")[-1]
    assert event["target"] == "portal"
    assert why in event["why"]


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (TrustRule(claims={"sub": "ben"}, client_id=RULE.client_id, per_subject=True), "no rule"),
        (TrustRule(claims={"sub": "*"}, client_id=PrincipalId("gateway"), per_subject=True), "no rule"),
        (TrustRule(claims={"sub": "*"}, client_id=RULE.client_id), "per_subject"),
    ],
    ids=["no rule", "another client", "no subject"],
)
def test_a_rule_of_the_issuer_must_assign_it_to_the_client_for_each_user(
    site: Site, rule: TrustRule, why: str
) -> None:
    site.new_client("portal")
    trust(site, rule)

    answer = present(site, id_jag(site))

    assert answer.error == "invalid_grant"
    assert why in answer.json["error_description"]


def test_a_signature_of_another_key_is_refused(trusting: Site) -> None:
    answer = present(trusting, PartyKey.make().jwt(claims_of(trusting), typ="oauth-id-jag+jwt"))

    assert answer.error == "invalid_grant"
    assert "signature" in answer.json["error_description"]


@pytest.mark.parametrize("changes", [{"alg": "none"}, {"crit": ["x"]}, {"kid": "other"}])
def test_a_wrong_header_is_refused(trusting: Site, changes: dict[str, object]) -> None:
    header = {"alg": "ES256", "kid": KEY.key_id, "typ": "oauth-id-jag+jwt"} | changes

    assert present(trusting, KEY.jwt(claims_of(trusting), header)).error == "invalid_grant"


def test_the_max_age_of_the_issuer_holds(site: Site) -> None:
    site.new_client("portal")
    trust(site, max_age=timedelta(seconds=60))

    assert present(site, id_jag(site, iat=-71)).error == "invalid_grant"
    assert present(site, id_jag(site, iat=-70)).status == 200


def test_the_audiences_of_the_issuer_do_not_count(site: Site) -> None:
    """The audiences in the issuer's record apply to its other tokens; an unused one limits it to ID-JAGs."""
    site.new_client("portal")
    trust(site, audiences=("nothing",))

    assert present(site, id_jag(site, aud="nothing")).error == "invalid_grant"
    assert present(site, id_jag(site)).status == 200


def test_a_client_without_the_grant_is_unauthorized(site: Site) -> None:
    site.new_client("portal", grants={Grant.PASSWORD})
    trust(site)

    assert present(site, id_jag(site)).error == "unauthorized_client"


def test_a_disabled_client_presents_nothing(trusting: Site) -> None:
    trusting.update_client("portal", disabled=True)

    assert present(trusting, id_jag(trusting)).error == "invalid_client"


@pytest.mark.parametrize("named", [{}, {"client_id": "portal"}], ids=["no client", "named"])
@pytest.mark.parametrize("public", [False, True])
def test_an_id_jag_needs_client_authentication(site: Site, public: bool, named: dict[str, str]) -> None:
    """If a public client could present an ID-JAG, a thief of one could present it in that client's name."""
    site.new_client("portal", public=public)
    trust(site)

    answer = site.token({"grant_type": token.JWT_BEARER, "assertion": id_jag(site), **named})

    assert (answer.status, answer.error) == (401, "invalid_client")
    assert "authenticat" in answer.json["error_description"]


def test_too_many_wrong_id_jags_from_an_address_are_answered_with_the_time_to_wait(trusting: Site) -> None:
    wrong = id_jag(trusting, aud="https://other.example")

    for _ in range(200):
        answer = present(trusting, wrong)
        if answer.status == 429:
            break

    assert answer.status == 429
    assert int(answer.headers["Retry-After"][0]) >= 1


# In another place


def test_an_id_jag_is_no_token_of_a_platform(trusting: Site) -> None:
    """The RPC Issue takes federated tokens as credentials, but not ID-JAGs."""
    request = IssueRequest(credential=FederatedToken(jwt=Secret(id_jag(trusting))), origin=Origin())

    with pytest.raises(
        IdJagRefusedError, match="the ID-JAG was refused: it authenticates no client; present it over HTTP"
    ):
        trusting.use.issuer.issue(request)

    event = trusting.audited("issue_refused")[-1]
    assert event["issuer"] == OTHER_ISSUER


@pytest.mark.parametrize("issuer", [OTHER_ISSUER, "portal"])
def test_an_id_jag_is_no_client_assertion(trusting: Site, issuer: str) -> None:
    jwt = id_jag(trusting, iss=issuer, sub=issuer)

    answer = trusting.token(
        {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": jwt,
        }
    )

    assert (answer.status, answer.error) == (401, "invalid_client")
    assert "authenticates no client" in trusting.audited("issue_refused")[-1]["why"]
    with pytest.raises(IdJagRefusedError, match="ID-JAG"):
        trusting.use.authenticator.client(ClientAssertion(jwt=Secret(jwt)))


def test_an_id_jag_is_no_subject_token(trusting: Site) -> None:
    trusting.new_client("backend", grants={Grant.TOKEN_EXCHANGE}, exchange_audiences={"api"})

    answer = trusting.exchange(id_jag(trusting), "backend")

    assert answer.error == "invalid_request"
    assert "subject_token was rejected" in answer.json["error_description"]
    typed = trusting.exchange(
        id_jag(trusting), "backend", subject_token_type="urn:ietf:params:oauth:token-type:id-jag"
    )
    assert "subject_token_type" in typed.json["error_description"]


@pytest.mark.parametrize("typ", ["JWT", "at+jwt", "id-jag+jwt"])
def test_another_token_of_the_issuer_takes_no_client_authentication(trusting: Site, typ: str) -> None:
    answer = present(trusting, KEY.jwt(claims_of(trusting), typ=typ))

    assert answer.error == "invalid_request"
    assert "takes no client authentication" in answer.json["error_description"]
