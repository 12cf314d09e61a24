"""Introspection and RFC 7009 revocation: what a client may learn about a token, and which it may revoke."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.errors import CallerScopeMissingError, ReplicaStaleError
from identity_service.domain.ids import PrincipalId
from identity_service.domain.principals import Grant
from identity_service.domain.secret import Secret
from identity_service.domain.tokens import AccessToken
from identity_service.services.client_proofs import AuthenticatedClient
from identity_service.services.introspect import LiveRefreshToken
from identity_service.services.revoke import BySession, ByTokenId
from identity_service.services.revoke_token import RevokeTokenRequest
from identity_service.services.token_maker import TokenSet
from tests.unit.services.use_case_site import CALLER, CERTIFICATE, UseCaseSite

PORTAL = PrincipalId("portal")


def refresh_token(site: UseCaseSite, tokens: TokenSet) -> LiveRefreshToken | None:
    return site.use.introspector.refresh_token(Secret(tokens.refresh_token or ""))


def access_token(site: UseCaseSite, tokens: TokenSet) -> AccessToken | None:
    return site.use.introspector.access_token(Secret(tokens.access_token))


# Introspect


def test_a_token_is_looked_up_without_being_used(site: UseCaseSite) -> None:
    tokens = site.signed_in()

    for _ in range(2):
        assert access_token(site, tokens) == site.read(tokens)
        assert refresh_token(site, tokens) == LiveRefreshToken(
            session=site.session(tokens), scopes=("read", "write")
        )

    assert site.session(tokens).latest == 0
    assert access_token(site, replace(tokens, access_token="a.b.c")) is None
    assert refresh_token(site, replace(tokens, refresh_token="idrt_x")) is None


def test_a_bound_token_is_returned_without_the_certificate(site: UseCaseSite) -> None:
    site.new_client(require_binding=True)
    tokens = site.client_token(origin=replace(CALLER, certificate=CERTIFICATE))

    found = access_token(site, tokens)

    assert found is not None
    assert found.certificate_sha256 == CERTIFICATE.sha256


def test_a_revoked_token_is_not_active(site: UseCaseSite) -> None:
    tokens = site.signed_in()
    site.revoke(ByTokenId(token_id=tokens.token_id))
    assert access_token(site, tokens) is None
    assert refresh_token(site, tokens) is not None

    site.revoke(BySession(session_id=site.session(tokens).session_id))

    assert refresh_token(site, tokens) is None


def test_a_refresh_token_is_active_as_long_as_refresh_accepts_it(site: UseCaseSite) -> None:
    first = site.signed_in()
    second = site.refresh(first)
    assert [refresh_token(site, each) is not None for each in (first, second)] == [True, True]

    third = site.refresh(second)

    assert [refresh_token(site, each) is not None for each in (first, second, third)] == [False, True, True]
    site.pass_time(seconds=61)
    assert [refresh_token(site, each) is not None for each in (first, second, third)] == [False, True, True]
    site.refresh(third)
    assert [refresh_token(site, each) is not None for each in (second, third)] == [False, True]


def test_a_refresh_token_has_the_scopes_that_are_still_allowed(site: UseCaseSite) -> None:
    tokens = site.signed_in()
    site.update_client("portal", scopes=frozenset({"write"}))

    found = refresh_token(site, tokens)

    assert found is not None
    assert found.scopes == ("write",)


def lose_grant(site: UseCaseSite, tokens: TokenSet) -> None:
    site.update_client("portal", grants=frozenset({Grant.PASSWORD}))


def lose_audiences(site: UseCaseSite, tokens: TokenSet) -> None:
    site.update_client("portal", audiences=frozenset({"other"}))


def lose_session(site: UseCaseSite, tokens: TokenSet) -> None:
    site.store.sessions.read = lambda session_id, *, rotation=None: None  # type: ignore[method-assign]


@pytest.mark.parametrize("happens", [lose_grant, lose_audiences, lose_session])
def test_a_refresh_token_that_would_be_refused_is_not_active(
    site: UseCaseSite, happens: Callable[[UseCaseSite, TokenSet], None]
) -> None:
    tokens = site.signed_in()

    happens(site, tokens)

    assert refresh_token(site, tokens) is None


def test_a_stale_process_tells_nothing(site: UseCaseSite) -> None:
    tokens = site.signed_in()
    site.clock.advance(site.settings.max_staleness * 2)

    for look in (access_token, refresh_token):
        with pytest.raises(ReplicaStaleError):
            look(site, tokens)


# Revocation by a client


def proven(site: UseCaseSite, client_id: str) -> AuthenticatedClient:
    return site.use.authenticator.client(site.secret_of(client_id))


def revoke(site: UseCaseSite, text: str | None, client: AuthenticatedClient | PrincipalId) -> None:
    site.use.token_revoker.revoke(RevokeTokenRequest(token=Secret(text or ""), client=client, origin=CALLER))


@pytest.mark.parametrize("kind", ["access", "refresh"])
@pytest.mark.parametrize(
    ("client", "error"),
    [
        (lambda site: proven(site, "portal"), None),
        (lambda site: proven(site, "janitor"), None),
        (lambda site: proven(site, "reports"), CallerScopeMissingError),
        (lambda site: proven(site, "batch"), CallerScopeMissingError),
        (lambda site: PORTAL, CredentialRefusedError),
        (lambda site: PrincipalId("reports"), CallerScopeMissingError),
        (lambda site: PrincipalId("janitor"), CallerScopeMissingError),
    ],
    ids=[
        "its own",
        "one with identity.revoke",
        "another",
        "another, with a lower id",
        "its own, unproven",
        "another, unproven",
        "another, with a lower id, unproven",
    ],
)
def test_a_client_revokes_its_own_tokens_and_those_of_others_only_with_the_scope(
    site: UseCaseSite,
    kind: str,
    client: Callable[[UseCaseSite], AuthenticatedClient | PrincipalId],
    error: type[Exception] | None,
) -> None:
    site.new_client()
    site.new_client("batch")
    site.new_client("janitor", scopes={"identity.revoke"})
    tokens = site.signed_in()
    text = tokens.access_token if kind == "access" else tokens.refresh_token

    if error is not None:
        with pytest.raises(error) as refused:
            revoke(site, text, client(site))
        assert getattr(refused.value, "principal", "portal") == "portal"
        assert site.reason(tokens) == ""
        return
    revoke(site, text, client(site))
    assert site.reason(tokens) == "REVOKED"
    (event,) = [*site.audited("token_revoked"), *site.audited("session_revoked")]
    assert (event["peer"], event["actor"]) == (CALLER.peer, "admin")
    assert (refresh_token(site, tokens) is None) == (kind == "refresh")


@pytest.mark.parametrize("kind", ["access", "refresh"])
def test_a_public_client_names_itself_only(site: UseCaseSite, kind: str) -> None:
    tokens = site.signed_in(public=True)
    text = tokens.access_token if kind == "access" else tokens.refresh_token
    site.new_app("another", public=True)
    with pytest.raises(CallerScopeMissingError):
        revoke(site, text, PrincipalId("another"))

    revoke(site, text, PORTAL)

    assert site.reason(tokens) == "REVOKED"


@pytest.mark.parametrize("text", ["", "a.b.c", "idrt_x", "idrt_" + "A" * 80])
def test_a_text_that_is_no_token_is_ignored(site: UseCaseSite, text: str) -> None:
    count = len(site.changes())

    revoke(site, text, PrincipalId("nobody"))

    assert len(site.changes()) == count


def test_the_token_of_a_session_that_is_gone_belongs_to_no_client(site: UseCaseSite) -> None:
    tokens = site.signed_in()
    lose_session(site, tokens)

    revoke(site, tokens.refresh_token, PrincipalId("nobody"))

    assert site.reason(tokens) == "REVOKED"


def test_the_token_of_a_client_that_is_gone_may_be_revoked_in_its_name(site: UseCaseSite) -> None:
    tokens = site.signed_in()
    site.use.administration.clients.delete("portal")

    revoke(site, tokens.access_token, PORTAL)

    assert len(site.audited("token_revoked")) == 1
