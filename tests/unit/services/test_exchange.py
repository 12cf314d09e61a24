"""Token exchange: the token that a client gets on behalf of another token's subject, and refusals."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from identity_service.domain.credential_errors import (
    BindingRequiredError,
    CredentialRefusedError,
    SubjectTokenRefusedError,
)
from identity_service.domain.errors import (
    EncryptionNotPossibleError,
    ExchangeNotAllowedError,
    GrantNotAllowedError,
    IdentityError,
)
from identity_service.domain.grants import GrantRequest
from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import federated_id
from identity_service.domain.origin import Origin
from identity_service.domain.principals import Grant
from identity_service.domain.secret import Secret
from identity_service.domain.tokens import AccessToken, Actor, TokenEncryption
from identity_service.jose.encryption_keys import generate_service_key
from identity_service.services.authenticate import ClientCertificate, ClientSecret, FederatedToken
from identity_service.services.exchange import ExchangeRequest
from identity_service.services.revoke import ByTokenId
from identity_service.services.token_maker import TokenSet
from tests.jwts import PartyKey, assertion_claims
from tests.service_site import KEY, OTHER_ISSUER
from tests.unit.services.use_case_site import ANOTHER_CERTIFICATE, CALLER, CERTIFICATE, UseCaseSite

GATEWAY, BATCH, BOSS = PrincipalId("gateway"), PrincipalId("batch"), PrincipalId("boss")
BACKEND = GrantRequest(audiences=("backend",))
ANOTHER_KEY = PartyKey.make()


def prepare(site: UseCaseSite, **gateway: Any) -> TokenSet:
    """Create two clients that exchange the tokens sent to `api`; return the tokens of a user."""
    exchanging: dict[str, Any] = {
        "grants": {Grant.TOKEN_EXCHANGE, Grant.CLIENT_CREDENTIALS},
        "audiences": {"backend"},
        "scopes": {"read"},
        "exchange_audiences": {"api"},
    }
    site.new_client(GATEWAY, **(exchanging | gateway))
    site.new_client(BATCH)
    site.new_app()
    site.new_user()
    return site.sign_in(claims={"tier": "gold"})


def exchange(site: UseCaseSite, subject: TokenSet, actor: TokenSet | None = None, **request: Any) -> TokenSet:
    values: dict[str, Any] = {
        "grant": BACKEND,
        "exchange": ExchangeRequest(
            subject_token=Secret(subject.access_token),
            actor_token=Secret(actor.access_token) if actor is not None else None,
        ),
    }
    return site.client_token(GATEWAY, **(values | request))


def over(certificate: Any) -> Origin:
    return replace(CALLER, certificate=certificate)


def test_the_new_token_is_for_the_subject_and_its_session_and_names_the_client_as_actor(
    site: UseCaseSite,
) -> None:
    tokens = prepare(site)
    site.pass_time(minutes=5, milliseconds=999)

    made = exchange(site, tokens, claims={"batch": 7}, may_act=BOSS, origin=CALLER)

    old, new = site.read(tokens), site.read(made)
    assert isinstance(old, AccessToken)
    assert isinstance(new, AccessToken)
    assert new == replace(
        old,
        client_id=GATEWAY,
        audiences=("backend",),
        scopes=("read",),
        token_id=made.token_id,
        issue_time=old.issue_time + timedelta(minutes=5),
        expire_time=old.expire_time,
        actors=(Actor(subject=GATEWAY, client_id=GATEWAY),),
        may_act=Actor(subject=BOSS),
        claims={"tier": "gold", "batch": 7},
        generations=new.generations,
    )
    assert (made.refresh_token, made.session_id, made.issue_time) == (None, tokens.session_id, new.issue_time)
    assert site.audited("token_exchanged") == [
        {
            "outcome": "done",
            "actor": GATEWAY,
            "target": old.subject,
            "client_id": GATEWAY,
            "token_id": made.token_id,
            "subject_token_id": tokens.token_id,
            "peer": CALLER.peer,
        }
    ]


def test_an_actor_token_names_the_actor(site: UseCaseSite) -> None:
    tokens = prepare(site)
    actor = site.client_token(BATCH)

    made = exchange(site, tokens, actor)

    new = site.read(made)
    assert isinstance(new, AccessToken)
    assert new.actors == (Actor(subject=BATCH, client_id=BATCH),)
    (event,) = site.audited("token_exchanged")
    assert (event["actor"], event["actor_token_id"]) == (BATCH, actor.token_id)


def test_a_federated_client_acts_as_its_subject(site: UseCaseSite) -> None:
    tokens = prepare(site)
    site.trust_issuer(GATEWAY, per_subject=True)
    jwt = Secret(KEY.jwt(assertion_claims("", site.clock.now(), iss=OTHER_ISSUER, sub="a job")))

    new = site.read(exchange(site, tokens, credential=FederatedToken(jwt=jwt)))

    assert isinstance(new, AccessToken)
    assert new.actors == (Actor(subject=federated_id(OTHER_ISSUER, "a job"), client_id=GATEWAY),)


def test_the_end_of_the_session_ends_what_was_exchanged_from_it(site: UseCaseSite) -> None:
    tokens = prepare(site)
    made = exchange(site, tokens)

    site.revoke(ByTokenId(token_id=tokens.token_id))
    assert site.reason(made) == "", "it has an id of its own"

    site.revoke_all_of(GATEWAY)
    assert site.reason(made) == "REVOKED"


# Tokens that are refused


def expired(site: UseCaseSite, tokens: TokenSet) -> TokenSet:
    """Let a token expire by less than the leeway, so that Verify still accepts it."""
    site.pass_time(minutes=15)
    assert site.reason(tokens) == ""
    return tokens


def revoked(site: UseCaseSite, tokens: TokenSet) -> TokenSet:
    site.revoke(ByTokenId(token_id=tokens.token_id))
    return tokens


def forged(site: UseCaseSite, tokens: TokenSet) -> TokenSet:
    return replace(tokens, access_token=tokens.access_token[:-8] + "AAAAAAAA")


@pytest.mark.parametrize(
    ("happens", "reason"), [(expired, "EXPIRED"), (revoked, "REVOKED"), (forged, "BAD_SIGNATURE")]
)
def test_a_subject_token_that_is_not_valid_is_refused(
    site: UseCaseSite, happens: Callable[[UseCaseSite, TokenSet], TokenSet], reason: str
) -> None:
    tokens = happens(site, prepare(site))

    with pytest.raises(SubjectTokenRefusedError, match=f"subject_token was rejected: {reason}"):
        exchange(site, tokens)

    assert [event["reason"] for event in site.audited("issue_refused")] == ["SUBJECT_TOKEN_REFUSED"]
    assert not site.audited("token_exchanged")


def test_a_token_that_has_a_second_left_gives_one_that_lives_as_long(site: UseCaseSite) -> None:
    tokens = prepare(site)
    site.pass_time(minutes=14, seconds=59)

    made = exchange(site, tokens)

    assert made.expire_time == tokens.expire_time


@pytest.mark.parametrize("happens", [revoked, forged])
def test_an_actor_token_that_is_not_valid_is_refused(
    site: UseCaseSite, happens: Callable[[UseCaseSite, TokenSet], TokenSet]
) -> None:
    tokens = prepare(site)
    actor = happens(site, site.client_token(BATCH))

    with pytest.raises(SubjectTokenRefusedError, match="actor_token was rejected"):
        exchange(site, tokens, actor)


@pytest.mark.parametrize(
    ("certificate", "accepted"), [(CERTIFICATE, True), (ANOTHER_CERTIFICATE, False), (None, False)]
)
def test_a_bound_token_is_exchanged_over_a_connection_with_its_certificate_only(
    site: UseCaseSite, certificate: Any, accepted: bool
) -> None:
    prepare(site)
    site.new_app("bound", require_binding=True)
    tokens = site.sign_in("bound", origin=over(CERTIFICATE))

    if accepted:
        new = site.read(exchange(site, tokens, origin=over(certificate)))
        assert isinstance(new, AccessToken)
        assert new.certificate_sha256 is None, "the binding is that of the client, not of the subject"
        return
    with pytest.raises(SubjectTokenRefusedError, match="BINDING_MISMATCH"):
        exchange(site, tokens, origin=over(certificate))


@pytest.mark.parametrize(("shown", "accepted"), [(KEY, True), (ANOTHER_KEY, False), (None, False)])
def test_a_token_that_is_bound_to_a_key_is_exchanged_with_its_proof_only(
    site: UseCaseSite, shown: PartyKey | None, accepted: bool
) -> None:
    prepare(site)
    tokens = site.sign_in(origin=site.proving(KEY))

    if accepted:
        made = exchange(site, tokens, origin=site.proving(shown))
        assert site.key_of(made) == site.key_of(tokens) is not None
        return
    with pytest.raises(SubjectTokenRefusedError, match="BINDING_MISMATCH"):
        exchange(site, tokens, origin=site.proving(shown))


def test_a_proof_beside_a_token_that_is_bound_to_no_key_binds_the_new_one(site: UseCaseSite) -> None:
    made = exchange(site, prepare(site), origin=site.proving(KEY))

    assert site.key_of(made) is not None
    assert site.reason(made) == "BINDING_MISMATCH", "it needs a proof from now on"


def test_the_new_token_is_bound_to_the_certificate_that_proves_the_client(site: UseCaseSite) -> None:
    tokens = prepare(site, certificates=CERTIFICATE.names)
    credential = ClientCertificate(certificate=CERTIFICATE)

    new = site.read(exchange(site, tokens, credential=credential, origin=over(CERTIFICATE)), CERTIFICATE)

    assert isinstance(new, AccessToken)
    assert new.certificate_sha256 == CERTIFICATE.sha256


@pytest.mark.parametrize(
    ("gateway", "request_", "error"),
    [
        ({}, {"credential": ClientSecret(client_id=GATEWAY, secret=Secret("x"))}, CredentialRefusedError),
        ({"grants": {Grant.CLIENT_CREDENTIALS}}, {}, GrantNotAllowedError),
        ({"exchange_audiences": {"another"}}, {}, ExchangeNotAllowedError),
        ({"require_binding": True}, {}, BindingRequiredError),
        ({}, {"encryption": TokenEncryption.AUDIENCE}, EncryptionNotPossibleError),
    ],
    ids=["a wrong secret", "no grant", "not its audience", "no certificate", "no key"],
)
def test_an_exchange_that_is_refused_issues_nothing(
    site: UseCaseSite, gateway: dict[str, Any], request_: dict[str, Any], error: type[IdentityError]
) -> None:
    tokens = prepare(site, **gateway)

    with pytest.raises(error):
        exchange(site, tokens, **request_)

    assert not site.audited("token_exchanged")
    assert not site.audited("token_issued")


def test_the_new_token_is_encrypted_if_that_is_asked_for(site: UseCaseSite) -> None:
    tokens = prepare(site)
    site.new_client("backend", encryption_key=generate_service_key().public_jwk)

    assert site.reason(exchange(site, tokens, encryption=TokenEncryption.AUDIENCE)) == "UNDECRYPTABLE"
    service = exchange(site, tokens, encryption=TokenEncryption.SERVICE)
    assert site.reason(service) == ""
    assert service.access_token.count(".") == 4
