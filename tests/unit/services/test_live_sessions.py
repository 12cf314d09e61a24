"""Sessions: which are live, and what a client may learn from their refresh tokens."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from identity_service.domain.credential_errors import BindingRequiredError, SessionEndedError
from identity_service.domain.errors import (
    AudienceNotAllowedError,
    EncryptionNotPossibleError,
    IdentityError,
    ScopeNotAllowedError,
    UnknownScopeError,
)
from identity_service.domain.grants import GrantRequest
from identity_service.domain.ids import EVERYONE, Link, PrincipalId, SessionId
from identity_service.domain.log import Generation
from identity_service.domain.origin import PeerCertificate
from identity_service.domain.principals import User
from identity_service.domain.sessions import PlainRotation, SessionState
from identity_service.domain.tokens import AccessToken, TokenEncryption
from identity_service.jose.encryption_keys import generate_service_key
from identity_service.services.authenticate import ClientCertificate
from identity_service.services.revoke import ByPrincipal, BySession
from identity_service.services.token_maker import TokenSet
from tests.unit.services.use_case_site import (
    ANOTHER_CERTIFICATE,
    CERTIFICATE,
    UseCaseSite,
    open_site,
    over,
)


def read(**changes: Any) -> Callable[[UseCaseSite, TokenSet], None]:
    """Have the store return a changed session, as after a restore that lost the revocation."""

    def happens(site: UseCaseSite, tokens: TokenSet) -> None:
        real = site.store.sessions.read

        def read(session_id: SessionId, *, rotation: PlainRotation | None = None) -> SessionState | None:
            state = real(session_id, rotation=rotation)
            assert state is not None
            values = {name: value(state) for name, value in changes.items()}
            return replace(state, **values)

        site.store.sessions.read = read  # type: ignore[method-assign]

    return happens


def none(state: SessionState) -> None:
    return None


def disabled(name: str) -> Callable[[SessionState], object]:
    return lambda state: replace(getattr(state, name), disabled=True)


def end_in_store(site: UseCaseSite, tokens: TokenSet) -> None:
    site.other_process().revoke(BySession(session_id=site.session(tokens).session_id))


def end_in_replica(site: UseCaseSite, tokens: TokenSet) -> None:
    site.replica.revocations.denylist.add(site.session(tokens).session_id, site.clock.now())


def raise_in_store(principal: PrincipalId) -> Callable[[UseCaseSite, TokenSet], object]:
    return lambda site, _: site.other_process().revoke(ByPrincipal(principal=principal))


def raise_in_replica(site: UseCaseSite, tokens: TokenSet) -> None:
    site.replica.revocations.raise_to(PrincipalId("portal"), Generation(number=1, link=Link("a")))


def hold_a_lost_generation(site: UseCaseSite, tokens: TokenSet) -> None:
    held = {EVERYONE: Generation(number=1, link=Link("lost"))}
    site.store.sessions.replace(replace(site.session(tokens), generations=held), expected_version=1)


def expire(site: UseCaseSite, tokens: TokenSet) -> None:
    site.pass_time(days=30)


def take_the_last_audience(site: UseCaseSite, tokens: TokenSet) -> None:
    site.update_client("portal", audiences=frozenset({"another"}))


@pytest.mark.parametrize(
    "happens",
    [
        read(user=none),
        read(user=disabled("user")),
        read(client=none),
        read(client=disabled("client")),
        read(ended=lambda _: True),
        end_in_store,
        end_in_replica,
        raise_in_store(EVERYONE),
        raise_in_store(PrincipalId("portal")),
        raise_in_replica,
        hold_a_lost_generation,
        expire,
        take_the_last_audience,
    ],
)
def test_a_session_that_is_over_is_refreshed_no_more(
    site: UseCaseSite, happens: Callable[[UseCaseSite, TokenSet], object]
) -> None:
    tokens = site.signed_in(public=True)
    happens(site, tokens)

    with pytest.raises(SessionEndedError):
        site.refresh(tokens)

    assert [event["reason"] for event in site.audited("refresh_refused")] == ["SESSION_ENDED"]


def test_a_session_lives_until_its_last_second(site: UseCaseSite) -> None:
    tokens = site.signed_in()
    site.pass_time(days=30, seconds=-1)

    refreshed = site.refresh(tokens)

    assert refreshed.expire_time - site.clock.now() == timedelta(seconds=1)


# What is granted


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ({}, (("api", "web"), ("read", "write"))),
        ({"scopes": ("write",)}, (("api", "web"), ("write",))),
        ({"audiences": ("web",)}, (("web",), ("read", "write"))),
    ],
)
def test_a_request_may_narrow_the_next_access_token_only(
    site: UseCaseSite, asked: dict[str, Any], granted: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    site.new_app(audiences={"api", "web"})
    made = site.new_user()
    change_user(site, made, audiences=frozenset({"api", "web"}))
    tokens = site.sign_in(grant=GrantRequest(audiences=("api", "web")))

    refreshed = site.refresh(tokens, **asked)

    assert (refreshed.audiences, refreshed.scopes) == granted
    again = site.refresh(refreshed)
    assert (again.audiences, again.scopes) == (("api", "web"), ("read", "write"))


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"scopes": ("admin",)}, ScopeNotAllowedError),
        ({"audiences": ("web",)}, AudienceNotAllowedError),
        ({"scopes": ('not "a" scope',)}, UnknownScopeError),
    ],
)
def test_a_request_for_more_than_the_session_has_is_refused_and_rotates_nothing(
    site: UseCaseSite, asked: dict[str, Any], error: type[IdentityError]
) -> None:
    tokens = site.signed_in()

    with pytest.raises(error):
        site.refresh(tokens, **asked)

    assert site.session(tokens).latest == 0
    # A request that no principal may send is the client's mistake, and none for the audit trail.
    refusals = [] if error is UnknownScopeError else [error.reason]
    assert [event["reason"] for event in site.audited("refresh_refused")] == refusals


def test_a_right_that_the_user_lost_is_not_granted_again(site: UseCaseSite) -> None:
    site.new_app()
    user = site.new_user()
    tokens = site.sign_in()
    change_user(site, user, scopes=frozenset({"read"}))

    assert site.refresh(tokens).scopes == ("read",)


def change_user(site: UseCaseSite, user_id: PrincipalId, **changes: Any) -> None:
    wanted = User(user_id=user_id, username="ana", **changes)
    site.use.administration.users.update(wanted, list(changes))
    site.replica.catch_up()


@pytest.mark.parametrize("known", [frozenset[str](), frozenset({"read"})])
def test_a_scope_that_this_deployment_does_not_know_may_not_be_named(known: frozenset[str]) -> None:
    with open_site(known_scopes=tuple(known)) as site:
        tokens = site.signed_in()
        if not known:
            site.refresh(tokens, scopes=("write",))
            return
        with pytest.raises(UnknownScopeError):
            site.refresh(tokens, scopes=("write",))


@pytest.mark.parametrize(
    ("sign_in", "refresh", "bound_to"),
    [
        (None, None, None),
        (None, CERTIFICATE, None),
        (CERTIFICATE, CERTIFICATE, CERTIFICATE),
        (CERTIFICATE, None, BindingRequiredError),
        (CERTIFICATE, ANOTHER_CERTIFICATE, BindingRequiredError),
    ],
)
def test_a_bound_session_stays_with_its_certificate(
    site: UseCaseSite,
    sign_in: PeerCertificate | None,
    refresh: PeerCertificate | None,
    bound_to: PeerCertificate | type[IdentityError] | None,
) -> None:
    site.new_app(require_binding=sign_in is not None)
    site.new_user()
    tokens = site.sign_in(origin=over(sign_in))

    if isinstance(bound_to, type):
        with pytest.raises(bound_to):
            site.refresh(tokens, origin=over(refresh))
        assert site.session(tokens).latest == 0
        return
    refreshed = site.read(site.refresh(tokens, origin=over(refresh)), bound_to)

    assert isinstance(refreshed, AccessToken)
    assert refreshed.certificate_sha256 == (bound_to.sha256 if bound_to is not None else None)


def test_a_client_that_proves_itself_by_a_new_certificate_binds_the_next_token_to_it(
    site: UseCaseSite,
) -> None:
    """Certificates are renewed more often than users sign in."""
    site.new_app(certificates=CERTIFICATE.names | ANOTHER_CERTIFICATE.names, require_binding=True)
    site.new_user()
    tokens = site.sign_in(origin=over(CERTIFICATE))
    proof = ClientCertificate(certificate=ANOTHER_CERTIFICATE)

    refreshed = site.refresh(tokens, client=proof, origin=over(ANOTHER_CERTIFICATE))

    found = site.read(refreshed, ANOTHER_CERTIFICATE)
    assert isinstance(found, AccessToken)
    assert found.certificate_sha256 == ANOTHER_CERTIFICATE.sha256


def test_a_session_without_a_certificate_is_bound_once_its_client_must_be(site: UseCaseSite) -> None:
    tokens = site.signed_in()
    site.update_client("portal", require_binding=True)

    with pytest.raises(BindingRequiredError):
        site.refresh(tokens, origin=over(CERTIFICATE))


def test_a_session_whose_audience_lost_its_key_is_not_rotated(site: UseCaseSite) -> None:
    site.new_client("api", encryption_key=generate_service_key().public_jwk)
    site.new_app()
    site.new_user()
    tokens = site.sign_in(encryption=TokenEncryption.AUDIENCE)
    assert site.refresh(tokens).access_token.count(".") == 4, "a nested JWE"
    rotated = site.session(tokens)
    site.update_client("api", encryption_key=None)

    with pytest.raises(EncryptionNotPossibleError):
        site.refresh(tokens)

    assert site.session(tokens) == rotated
