"""Issue: the tokens for each kind of credential, and what the session keeps of the sign-in."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from identity_service.domain.grants import GrantRequest
from identity_service.domain.ids import EVERYONE, PrincipalId
from identity_service.domain.issuers import federated_id
from identity_service.domain.principals import Grant
from identity_service.domain.secret import Secret
from identity_service.domain.sessions import Session
from identity_service.domain.tokens import AccessToken, Actor
from identity_service.services.admin.administration import NewUser
from identity_service.services.authenticate import ClientCertificate, FederatedToken
from identity_service.services.revoke import ByPrincipal
from tests.jwts import assertion_claims
from tests.service_site import KEY, OTHER_ISSUER
from tests.unit.services.use_case_site import CALLER, CERTIFICATE, UseCaseSite, open_site

BOSS = PrincipalId("boss")
WHOLE = GrantRequest(audiences=("web", "api"), scopes=("write", "read"), lifetime=timedelta(minutes=7))
CLIENT = PrincipalId("reports")


# Clients


def test_a_client_gets_the_access_token_that_it_asks_for_and_no_refresh_token(site: UseCaseSite) -> None:
    site.new_client(audiences={"api", "web"})

    tokens = site.client_token(grant=WHOLE, claims={"tier": "gold"}, may_act=BOSS, origin=CALLER)

    found = site.read(tokens)
    assert isinstance(found, AccessToken)
    assert found == AccessToken(
        issuer=site.settings.issuer,
        subject=CLIENT,
        client_id=CLIENT,
        audiences=WHOLE.audiences,  # type: ignore[arg-type]
        scopes=WHOLE.scopes,  # type: ignore[arg-type]
        token_id=tokens.token_id,
        issue_time=site.clock.now(),
        expire_time=site.clock.now() + timedelta(minutes=7),
        may_act=Actor(subject=BOSS),
        claims={"tier": "gold"},
        key_id=found.key_id,
    )
    assert (tokens.audiences, tokens.scopes) == (found.audiences, found.scopes)
    assert (tokens.issue_time, tokens.expire_time) == (found.issue_time, found.expire_time)
    assert (tokens.refresh_token, tokens.refresh_expire_time, tokens.session_id) == (None, None, None)
    assert site.audited("token_issued") == [
        {
            "outcome": "done",
            "actor": CLIENT,
            "target": CLIENT,
            "client_id": CLIENT,
            "token_id": tokens.token_id,
            "peer": CALLER.peer,
        }
    ]


def test_a_request_without_wishes_gets_the_defaults(site: UseCaseSite) -> None:
    site.new_client()

    found = site.read(site.client_token())

    assert isinstance(found, AccessToken)
    assert (found.audiences, found.scopes) == (("api",), ("read", "write"))
    assert found.expire_time - found.issue_time == timedelta(minutes=15)
    assert (found.claims, found.may_act, found.certificate_sha256, found.generations) == ({}, None, None, {})


def test_times_in_tokens_are_whole_seconds(site: UseCaseSite) -> None:
    site.new_client()
    site.new_app()
    site.new_user()
    whole = site.clock.now()
    site.clock.advance(timedelta(milliseconds=999))

    for tokens in (site.client_token(), site.sign_in()):
        assert tokens.issue_time == whole
        assert tokens.expire_time == whole + timedelta(minutes=15)


def test_no_text_of_tokens_is_shown_by_accident(site: UseCaseSite) -> None:
    site.new_app()
    site.new_user()

    tokens = site.sign_in()

    assert tokens.refresh_token is not None
    assert tokens.access_token not in repr(tokens)
    assert tokens.refresh_token not in repr(tokens)


def test_a_token_of_a_federated_principal_names_it_as_the_subject(site: UseCaseSite) -> None:
    site.new_client()
    site.trust_issuer(per_subject=True)
    jwt = Secret(KEY.jwt(assertion_claims("", site.clock.now(), iss=OTHER_ISSUER, sub="a job")))

    found = site.read(site.client_token(credential=FederatedToken(jwt=jwt)))

    assert isinstance(found, AccessToken)
    assert (found.subject, found.client_id) == (federated_id(OTHER_ISSUER, "a job"), CLIENT)
    assert site.audited("token_issued")[0]["actor"] == site.audited("token_issued")[0]["target"]
    assert site.audited("token_issued")[0]["target"] == found.subject


def test_a_token_names_the_generations_under_which_it_was_issued(site: UseCaseSite) -> None:
    site.new_client()
    for principal in (EVERYONE, CLIENT, PrincipalId("another")):
        site.revoke(ByPrincipal(principal=principal))

    found = site.read(site.client_token())

    assert isinstance(found, AccessToken)
    assert set(found.generations) == {EVERYONE, CLIENT}


@pytest.mark.parametrize(
    ("app", "by_certificate", "bound"),
    [
        ({}, False, False),
        ({"require_binding": True}, False, True),
        ({"certificates": CERTIFICATE.names}, True, True),
    ],
    ids=["a secret", "a secret, and binding is required", "the certificate"],
)
def test_a_token_is_bound_to_the_certificate_that_proved_the_client_or_if_the_client_requires_it(
    site: UseCaseSite, app: dict[str, Any], by_certificate: bool, bound: bool
) -> None:
    site.new_client(**app)
    credential = ClientCertificate(certificate=CERTIFICATE) if by_certificate else site.secret_of(CLIENT)

    tokens = site.client_token(credential=credential, origin=replace(CALLER, certificate=CERTIFICATE))

    found = site.read(tokens, CERTIFICATE)
    assert isinstance(found, AccessToken)
    assert found.certificate_sha256 == (CERTIFICATE.sha256 if bound else None)
    assert site.reason(tokens) == ("BINDING_MISMATCH" if bound else "")


# Users


def test_a_session_remembers_everything_that_was_chosen_at_the_sign_in(site: UseCaseSite) -> None:
    site.new_app(audiences={"api", "web"})
    made = site.use.administration.users.create(
        NewUser(
            username="ana",
            password=site.password().password,
            audiences=("api", "web"),
            scopes=("read", "write"),
        )
    )
    user_id = made.record.user_id
    site.revoke(ByPrincipal(principal=EVERYONE))

    tokens = site.sign_in(grant=WHOLE, claims={"tier": "gold"}, device="a phone", may_act=BOSS, origin=CALLER)

    session, now = site.session(tokens), site.clock.now()
    assert session == Session(
        session_id=session.session_id,
        subject=user_id,
        client_id=PrincipalId("portal"),
        audiences=WHOLE.audiences,  # type: ignore[arg-type]
        scopes=WHOLE.scopes,  # type: ignore[arg-type]
        lifetime=timedelta(minutes=7),
        claims={"tier": "gold"},
        generations=site.store.log.generations(),
        auth_time=now,
        expire_time=now + timedelta(days=30),
        device="a phone",
        peer=CALLER.peer,
        may_act=BOSS,
        key_id=site.use.keys.current_refresh_key(),
    )
    found = site.read(tokens)
    assert found == AccessToken(
        issuer=site.settings.issuer,
        subject=session.subject,
        client_id=session.client_id,
        audiences=session.audiences,
        scopes=session.scopes,
        token_id=tokens.token_id,
        session_id=session.session_id,
        issue_time=now,
        expire_time=now + timedelta(minutes=7),
        auth_time=now,
        may_act=Actor(subject=BOSS),
        generations=session.generations,
        claims={"tier": "gold"},
        key_id=found.key_id if isinstance(found, AccessToken) else None,
    )
    assert tokens.refresh_expire_time == session.expire_time
    event = {
        "outcome": "done",
        "actor": user_id,
        "target": session.session_id,
        "client_id": "portal",
        "token_id": tokens.token_id,
        "peer": CALLER.peer,
    }
    assert site.audited("session_started") == site.stored("session_started") == [event]
    assert site.refresh(tokens).session_id == session.session_id


def test_only_a_client_with_the_grant_gets_a_refresh_token(site: UseCaseSite) -> None:
    site.new_client("portal", grants={Grant.PASSWORD})
    site.new_user()

    tokens = site.sign_in()

    assert (tokens.refresh_token, tokens.refresh_expire_time) == (None, None)
    assert tokens.session_id == site.session(tokens).session_id


def test_a_token_outlives_no_session(site: UseCaseSite) -> None:
    with open_site(session_lifetime=timedelta(minutes=5)) as short:
        short.new_app()
        short.new_user()

        tokens = short.sign_in()

        assert tokens.expire_time - tokens.issue_time == timedelta(minutes=5)


def test_a_session_of_a_client_that_requires_it_is_bound_to_the_certificate(site: UseCaseSite) -> None:
    site.new_app(require_binding=True)
    site.new_user()

    tokens = site.sign_in(origin=replace(CALLER, certificate=CERTIFICATE))

    assert site.session(tokens).certificate_sha256 == CERTIFICATE.sha256
    assert isinstance(site.read(tokens, CERTIFICATE), AccessToken)
