"""Issue: requests that are refused, and what a refused request leaves in store and log."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from identity_service.domain.credential_errors import BindingRequiredError, CredentialRefusedError
from identity_service.domain.errors import (
    AudienceNotAllowedError,
    EncryptionNotPossibleError,
    GrantNotAllowedError,
    IdentityError,
    LifetimeOutOfBoundsError,
    ReplicaStaleError,
    ScopeNotAllowedError,
    StoreUnavailableError,
    TooManyAttemptsError,
    UnknownScopeError,
)
from identity_service.domain.grants import GrantRequest
from identity_service.domain.ids import PrincipalId
from identity_service.domain.principals import Grant
from identity_service.domain.secret import Secret
from identity_service.domain.tokens import TokenEncryption
from identity_service.services.authenticate import ClientSecret
from tests.unit.services.use_case_site import CALLER, UseCaseSite, before, open_site, unreachable

CLIENT = PrincipalId("reports")
Ask = Callable[[UseCaseSite], object]


def refusals(site: UseCaseSite) -> list[str]:
    return [event["reason"] for event in site.audited("issue_refused")]


CLIENT_ASKS: dict[str, tuple[type[IdentityError], bool, Ask]] = {
    "a wrong secret": (
        CredentialRefusedError,
        True,
        lambda site: site.client_token(
            credential=ClientSecret(client_id=CLIENT, secret=Secret("wrong")), origin=CALLER
        ),
    ),
    "another audience": (
        AudienceNotAllowedError,
        True,
        lambda site: site.client_token(grant=GrantRequest(audiences=("web",)), origin=CALLER),
    ),
    "another scope": (
        ScopeNotAllowedError,
        True,
        lambda site: site.client_token(grant=GrantRequest(scopes=("admin",)), origin=CALLER),
    ),
    "a client without the grant": (
        GrantNotAllowedError,
        True,
        lambda site: site.client_token("portal", origin=CALLER),
    ),
    "a user with another audience": (
        AudienceNotAllowedError,
        True,
        lambda site: site.sign_in(grant=GrantRequest(audiences=("web",)), origin=CALLER),
    ),
    "a binding without a certificate": (
        BindingRequiredError,
        True,
        lambda site: site.client_token("bound", origin=CALLER),
    ),
    "a sign-in through a client whose tokens are bound, without a certificate": (
        BindingRequiredError,
        True,
        lambda site: site.sign_in("bound", origin=CALLER),
    ),
    "an unknown scope": (
        UnknownScopeError,
        False,
        lambda site: site.client_token(grant=GrantRequest(scopes=("identity.other",)), origin=CALLER),
    ),
    "a lifetime out of bounds": (
        LifetimeOutOfBoundsError,
        False,
        lambda site: site.client_token(grant=GrantRequest(lifetime=timedelta(days=2)), origin=CALLER),
    ),
    "an encryption for an audience without a key": (
        EncryptionNotPossibleError,
        False,
        lambda site: site.sign_in(encryption=TokenEncryption.AUDIENCE, origin=CALLER),
    ),
}


@pytest.mark.parametrize(("error", "audited", "ask"), CLIENT_ASKS.values(), ids=CLIENT_ASKS)
def test_a_refused_request_leaves_an_audit_event_unless_no_principal_may_make_it_and_no_session(
    site: UseCaseSite, error: type[IdentityError], audited: bool, ask: Ask
) -> None:
    site.new_client()
    site.new_app()
    site.new_client("bound", grants={Grant.CLIENT_CREDENTIALS, Grant.PASSWORD}, require_binding=True)
    user_id = site.new_user()

    with pytest.raises(error):
        ask(site)

    events = site.audited("issue_refused")
    assert refusals(site) == ([error.reason] if audited else [])
    assert all((event["actor"], event["peer"]) == ("admin", CALLER.peer) for event in events)
    assert not site.audited("token_issued")
    assert site.store.sessions.list_of(user_id) == []
    assert not site.audited("session_started")


def test_too_many_attempts_are_refused_and_recorded(site: UseCaseSite) -> None:
    site.new_client()
    wrong = ClientSecret(client_id=CLIENT, secret=Secret("wrong"))
    for _ in range(20):
        with pytest.raises(CredentialRefusedError):
            site.client_token(credential=wrong)

    with pytest.raises(TooManyAttemptsError):
        site.client_token()

    assert refusals(site) == [*["CREDENTIAL_REFUSED"] * 20, "TOO_MANY_ATTEMPTS"]


def test_a_deployment_may_name_the_scopes_that_exist() -> None:
    with open_site(known_scopes=("read",)) as site:
        site.new_client()

        site.client_token(grant=GrantRequest(scopes=("read",)))
        with pytest.raises(UnknownScopeError):
            site.client_token(grant=GrantRequest(scopes=("write",)))


def test_no_token_is_returned_for_a_session_that_the_store_did_not_confirm(site: UseCaseSite) -> None:
    site.new_app()
    site.new_user()
    before(site.store.sessions, "create", unreachable)

    with pytest.raises(StoreUnavailableError):
        site.sign_in()

    assert not site.audited("session_started")


@pytest.mark.parametrize("ask", [lambda site: site.client_token(), lambda site: site.sign_in()])
def test_a_stale_process_issues_nothing(site: UseCaseSite, ask: Ask) -> None:
    site.new_client()
    site.new_app()
    site.new_user()
    site.clock.advance(timedelta(seconds=6))

    with pytest.raises(ReplicaStaleError):
        ask(site)
