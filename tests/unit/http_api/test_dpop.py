"""DPoP at the OAuth endpoints (RFC 9449): bound tokens, refused proofs, nonces."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest

from identity_service.domain.ids import base64url
from identity_service.domain.principals import Grant
from identity_service.http_api import paths
from identity_service.http_api.oauth import token
from tests.dpop_proofs import dpop_proof
from tests.jwts import PartyKey, assertion_claims
from tests.unit.http_api.oauth_site import (
    ISSUER,
    KEY,
    OTHER_ISSUER,
    PASSWORD,
    TOKEN_URL,
    Answer,
    Site,
    running,
)

INTROSPECT_URL = f"{ISSUER}{paths.INTROSPECT}"
GRANTS = {Grant.CLIENT_CREDENTIALS, Grant.TOKEN_EXCHANGE}


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A client with a key pair, which sends a proof of it with each request."""

    site: Site
    key: PartyKey

    def proof(self, **changes: Any) -> str:
        values: dict[str, Any] = {"htu": TOKEN_URL} | changes
        return dpop_proof(self.key, self.site.clock.now(), **values)

    def tokens(self, client_id: str, *, proof: str | None = None, **params: str) -> Answer:
        """Request tokens, as a client with a secret or as a public client."""
        secret = self.site.secrets[client_id]
        headers = {"authorization": self.site.basic(client_id)} if secret else {}
        named = {} if secret else {"client_id": client_id}
        return self.site.token(named | params, dpop=proof or self.proof(), **headers)

    def client_token(self, client_id: str = "reports", **params: Any) -> Answer:
        return self.tokens(client_id, grant_type="client_credentials", **params)

    def sign_in(self, client_id: str, **params: Any) -> Answer:
        wanted = {"grant_type": "password", "username": "ana", "password": PASSWORD, **params}
        return self.tokens(client_id, **wanted)

    def refresh(self, client_id: str, signed_in: Answer, **params: Any) -> Answer:
        shown = {"grant_type": "refresh_token", "refresh_token": signed_in.json["refresh_token"], **params}
        return self.tokens(client_id, **shown)

    def introspect(self, text: str, own: str, **changes: Any) -> Answer:
        """Introspect a token; the caller authenticates itself with a token that is bound to its key."""
        values = {"htu": INTROSPECT_URL, "ath": base64url(sha256(own.encode()).digest())} | changes
        proof = self.proof(**values)
        return self.site.post(paths.INTROSPECT, {"token": text}, authorization=f"DPoP {own}", dpop=proof)


@pytest.fixture
def holder(site: Site) -> Holder:
    return Holder(site=site, key=PartyKey.make())


@pytest.fixture
def other(site: Site) -> Holder:
    return Holder(site=site, key=PartyKey.make())


def confirmation(site: Site, answer: Answer) -> Any:
    return site.introspect(answer.json["access_token"]).json.get("cnf")


# The token endpoint


def test_a_request_with_a_proof_gets_a_token_that_is_bound_to_its_key(site: Site, holder: Holder) -> None:
    site.new_client()

    answer = holder.client_token()

    assert (answer.status, answer.json["token_type"]) == (200, "DPoP")
    assert "DPoP-Nonce" not in answer.headers
    found = site.introspect(answer.json["access_token"]).json
    assert found["token_type"] == "DPoP"
    assert set(found["cnf"]) == {"jkt"}


def test_every_grant_binds_its_tokens(site: Site, holder: Holder) -> None:
    site.new_client("reports", exchange_audiences={"api"}, grants=GRANTS)
    site.new_app()
    site.new_user()
    site.trust_issuer()
    subject = site.client_token().json["access_token"]
    federated = {"iss": OTHER_ISSUER, "sub": "job", "aud": ISSUER}

    signed_in = holder.sign_in("portal")
    answers = [
        signed_in,
        holder.refresh("portal", signed_in),
        holder.tokens(
            "reports",
            grant_type=token.TOKEN_EXCHANGE,
            subject_token=subject,
            subject_token_type=token.ACCESS_TOKEN_TYPE,
        ),
        site.token(
            {
                "grant_type": token.JWT_BEARER,
                "assertion": KEY.jwt(assertion_claims("x", site.clock.now(), **federated)),
            },
            dpop=holder.proof(),
        ),
    ]

    assert [answer.json.get("token_type") for answer in answers] == ["DPoP"] * 4


def test_a_request_without_a_proof_gets_a_bearer_token(site: Site) -> None:
    site.new_client()

    assert site.client_token().json["token_type"] == "Bearer"


@pytest.mark.parametrize(
    "changes",
    [{"htm": "GET"}, {"htu": INTROSPECT_URL}, {"htu": f"https://evil.example{paths.TOKEN}"}],
    ids=str,
)
def test_a_proof_for_another_request_is_refused(site: Site, holder: Holder, changes: dict[str, str]) -> None:
    site.new_client()

    answer = holder.client_token(proof=holder.proof(**changes))

    assert (answer.status, answer.error) == (400, "invalid_dpop_proof")


def test_a_proof_works_once(site: Site, holder: Holder) -> None:
    site.new_client()
    proof = holder.proof()
    holder.client_token(proof=proof)

    answer = holder.client_token(proof=proof)

    assert (answer.status, answer.error) == (400, "invalid_dpop_proof")
    assert [event["reason"] for event in site.audited("issue_refused")] == ["DPOP_PROOF_INVALID"]


def test_a_request_with_two_proofs_is_refused(site: Site, holder: Holder) -> None:
    site.new_client()

    answer = site.token(
        {"grant_type": "client_credentials"},
        authorization=site.basic("reports"),
        dpop=(holder.proof(), holder.proof()),
    )

    assert (answer.status, answer.error) == (400, "invalid_dpop_proof")


@pytest.mark.parametrize(
    "htu", ["https://api.example:8443/oauth2/token", "HTTPS://ID.example:443/oauth2/./token"]
)
def test_a_proof_may_name_each_authority_of_the_service(htu: str) -> None:
    with running(dpop_authorities=("api.example:8443", "id.example")) as site:
        site.new_client()
        holder = Holder(site=site, key=PartyKey.make())

        assert holder.client_token(proof=holder.proof(htu=htu)).status == 200


def test_the_refresh_token_of_a_public_client_stays_bound(site: Site, holder: Holder, other: Holder) -> None:
    site.new_app(public=True)
    site.new_user()
    signed_in = holder.sign_in("portal")

    without = site.refresh(signed_in.json["refresh_token"])
    by_other = other.refresh("portal", signed_in)

    assert (without.error, by_other.error) == ("invalid_dpop_proof",) * 2
    assert holder.refresh("portal", signed_in).json["token_type"] == "DPoP"


# Introspection by a caller with a bound token


@pytest.fixture
def caller(site: Site, holder: Holder) -> str:
    return str(holder.client_token("gateway", scope="identity.verify").json["access_token"])


def test_a_caller_shows_its_bound_token_with_a_proof(site: Site, holder: Holder, caller: str) -> None:
    site.new_client()

    answer = holder.introspect(site.client_token().json["access_token"], caller)

    assert answer.json["active"] is True


def test_a_callers_proof_works_once(site: Site, holder: Holder, caller: str) -> None:
    holder.introspect("t", caller, jti="one")

    answer = holder.introspect("t", caller, jti="one")

    assert (answer.status, answer.error) == (401, "invalid_dpop_proof")
    (challenge,) = answer.headers["WWW-Authenticate"]
    assert challenge.startswith('DPoP realm="identity-service", error="invalid_dpop_proof", algs="')
    assert "ES256" in challenge


def test_a_bound_token_is_no_bearer_token(site: Site, caller: str) -> None:
    answer = site.post(paths.INTROSPECT, {"token": "t"}, authorization=f"Bearer {caller}")

    assert (answer.status, answer.error) == (401, "invalid_token")


def test_a_bearer_token_is_not_accepted_as_a_bound_one(site: Site, holder: Holder) -> None:
    unbound = site.client_token("gateway", scope="identity.verify").json["access_token"]

    answer = holder.introspect("t", unbound)

    assert (answer.status, answer.error) == (401, "invalid_token")
    assert answer.headers["WWW-Authenticate"][0].startswith("DPoP ")


def test_the_proof_of_a_caller_is_by_the_key_for_this_token_and_endpoint(
    site: Site, holder: Holder, other: Holder, caller: str
) -> None:
    answers = [
        other.introspect("t", caller),
        holder.introspect("t", caller, htu=TOKEN_URL),
        holder.introspect("t", caller, ath=base64url(sha256(b"t").digest())),
        holder.introspect("t", caller, ath=None),
        site.post(paths.INTROSPECT, {"token": "t"}, authorization=f"DPoP {caller}"),
    ]

    assert [answer.status for answer in answers] == [401] * 5
    assert [answer.error for answer in answers] == ["invalid_token", *["invalid_dpop_proof"] * 4]


def test_a_caller_with_a_bound_token_uses_one_method_of_authentication(
    site: Site, holder: Holder, caller: str
) -> None:
    answer = site.post(paths.INTROSPECT, {"token": "t", "client_secret": "s"}, authorization=f"DPoP {caller}")

    assert (answer.status, answer.error) == (400, "invalid_request")


# Nonces


@pytest.fixture
def strict() -> Iterator[Site]:
    """A service that requires nonces."""
    with running(dpop_require_nonce=True) as site:
        yield site


def test_a_proof_needs_a_nonce_if_the_service_requires_one(strict: Site) -> None:
    strict.new_client()
    holder = Holder(site=strict, key=PartyKey.make())

    refused = holder.client_token()
    (nonce,) = refused.headers["DPoP-Nonce"]
    accepted = holder.client_token(proof=holder.proof(nonce=nonce))

    assert (refused.status, refused.error) == (400, "use_dpop_nonce")
    assert (accepted.status, accepted.headers["DPoP-Nonce"]) == (200, [nonce])
    assert strict.audited("issue_refused") == [], "it is a step of the protocol"
    assert "DPoP-Nonce" not in strict.client_token().headers


def test_a_nonce_is_accepted_for_five_minutes_at_least_and_then_replaced(strict: Site) -> None:
    strict.new_client()
    holder = Holder(site=strict, key=PartyKey.make())
    (nonce,) = holder.client_token().headers["DPoP-Nonce"]

    strict.clock.advance(timedelta(minutes=5))
    strict.replica.heartbeat("tests")
    late = holder.client_token(proof=holder.proof(nonce=nonce))
    strict.clock.advance(timedelta(minutes=5))
    strict.replica.heartbeat("tests")
    too_late = holder.client_token(proof=holder.proof(nonce=nonce))

    assert late.status == 200
    assert late.headers["DPoP-Nonce"] != [nonce]
    assert too_late.error == "use_dpop_nonce"


def test_a_callers_proof_needs_a_nonce_too(strict: Site) -> None:
    holder = Holder(site=strict, key=PartyKey.make())
    (nonce,) = holder.client_token("gateway").headers["DPoP-Nonce"]
    issued = holder.client_token("gateway", scope="identity.verify", proof=holder.proof(nonce=nonce))
    own = issued.json["access_token"]

    refused = holder.introspect("t", own)
    accepted = holder.introspect("t", own, nonce=nonce)

    assert (refused.status, refused.error) == (401, "use_dpop_nonce")
    assert 'error="use_dpop_nonce"' in refused.headers["WWW-Authenticate"][0]
    assert refused.headers["DPoP-Nonce"] == accepted.headers["DPoP-Nonce"] == [nonce]
    assert accepted.json == {"active": False}
