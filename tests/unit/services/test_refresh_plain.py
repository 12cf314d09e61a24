"""Refresh on a store that can rotate a session in the same call as it reads it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from identity_service.domain.credential_errors import (
    BindingRequiredError,
    CredentialRefusedError,
    DpopProofRefusedError,
    SessionEndedError,
)
from identity_service.domain.errors import GrantNotAllowedError, IdentityError, PermissionDeniedError
from identity_service.domain.ids import FIRST_PARTY_CLIENT, PrincipalId, SessionId
from identity_service.domain.principals import Client, Grant, StoredSecret
from identity_service.domain.secret import Secret
from identity_service.domain.sessions import PlainRotation, Rotated, SessionState, decide_refresh
from identity_service.services.authenticate import ClientSecret
from identity_service.services.refresh import RefreshRequest
from identity_service.services.token_maker import TokenSet
from tests.jwts import PartyKey
from tests.service_site import KEY
from tests.unit.services.use_case_site import UseCaseSite, before

GRACE = timedelta(seconds=60)
PORTAL = PrincipalId("portal")


def rotating(site: UseCaseSite) -> list[PlainRotation | None]:
    """Have the store rotate a session as it reads it; return the list of the rotations it is asked for."""
    asked: list[PlainRotation | None] = []
    real, rotate = site.store.sessions.read, site.store.sessions.replace

    def read(session_id: SessionId, *, rotation: PlainRotation | None = None) -> SessionState | None:
        asked.append(rotation)
        state = real(session_id)
        if state is None or rotation is None:
            return state
        wanted = rotation.shown, rotation.client_id
        if wanted != (state.session.latest, state.session.client_id):
            return state
        decision = decide_refresh(
            state.session, rotation.shown, now=state.time, grace=rotation.grace, key_id=rotation.key_id
        )
        assert isinstance(decision, Rotated)
        assert rotate(decision.session, expected_version=state.version)
        return replace(state, rotated=True)

    site.store.sessions.read = read  # type: ignore[method-assign]
    return asked


@pytest.mark.parametrize("public", [False, True], ids=["confidential", "public"])
def test_a_rotation_that_the_store_made_is_not_made_again_and_is_recorded(
    site: UseCaseSite, public: bool
) -> None:
    tokens = site.signed_in(public=public)
    asked = rotating(site)
    before(site.store.sessions, "replace", lambda: pytest.fail("it is rotated already"))

    first = site.refresh(tokens, client_id=PORTAL)
    again = site.refresh(tokens, client_id=PORTAL)

    rotation = PlainRotation(
        shown=0, client_id=PORTAL, key_id=site.use.keys.current_refresh_key(), grace=GRACE
    )
    assert asked == [rotation, rotation]
    assert first.refresh_token == again.refresh_token != tokens.refresh_token
    assert len(site.audited("session_refreshed")) == 1
    site.refresh(first, client_id=PORTAL)


def test_a_caller_that_names_no_client_is_taken_for_the_built_in_one(site: UseCaseSite) -> None:
    site.new_user()
    tokens = site.sign_in(credential=site.password(FIRST_PARTY_CLIENT, client_secret=None))
    asked = rotating(site)

    site.use.refresher.refresh(RefreshRequest(refresh_token=Secret(tokens.refresh_token or "")))

    assert [rotation.client_id for rotation in asked if rotation] == [FIRST_PARTY_CLIENT]


@pytest.mark.parametrize(
    "request_",
    [{"scopes": ("read",)}, {"audiences": ("api",)}],
    ids=["scopes", "audiences"],
)
def test_a_request_beyond_the_session_is_refused_before_the_session_is_rotated(
    site: UseCaseSite, request_: dict[str, Any]
) -> None:
    tokens = site.signed_in()
    asked = rotating(site)

    site.refresh(tokens, **request_)
    with pytest.raises(PermissionDeniedError):
        site.refresh(tokens, scopes=("admin",))

    assert asked == [None, None]


Trouble = Callable[[UseCaseSite, TokenSet], None]


def client_changed(**changes: Any) -> Trouble:
    return lambda site, _: site.update_client("portal", **changes)


def ended_elsewhere(site: UseCaseSite, tokens: TokenSet) -> None:
    """Let this process know that the session has ended, while the store has lost that fact."""
    site.replica.revocations.denylist.add(tokens.session_id or "", site.clock.now() + timedelta(days=1))


def nothing(_: UseCaseSite, __: TokenSet) -> None:
    pass


WRONG_SECRET = {"client": ClientSecret(client_id=PORTAL, secret=Secret("wrong"))}
REFUSED: dict[str, tuple[Trouble, dict[str, Any], type[IdentityError]]] = {
    "a wrong secret": (nothing, WRONG_SECRET, CredentialRefusedError),
    "no credential": (nothing, {"client": None}, CredentialRefusedError),
    "a name alone": (nothing, {"client": None, "client_id": PORTAL}, CredentialRefusedError),
    "an unknown name": (nothing, {"client": None, "client_id": PrincipalId("x")}, CredentialRefusedError),
    "no grant": (client_changed(grants=frozenset({Grant.PASSWORD})), {}, GrantNotAllowedError),
    "no binding": (client_changed(require_binding=True), {}, BindingRequiredError),
    "ended": (ended_elsewhere, {}, SessionEndedError),
}


@pytest.mark.parametrize(("trouble", "request_", "error"), REFUSED.values(), ids=REFUSED.keys())
def test_a_call_that_this_process_refuses_rotates_nothing(
    site: UseCaseSite, trouble: Trouble, request_: dict[str, Any], error: type[IdentityError]
) -> None:
    tokens = site.signed_in()
    trouble(site, tokens)
    rotating(site)

    with pytest.raises(error):
        site.refresh(tokens, **request_)

    assert site.session(tokens).latest == 0


def test_a_public_client_that_is_disabled_rotates_nothing(site: UseCaseSite) -> None:
    tokens = site.signed_in(public=True)
    site.update_client("portal", disabled=True)
    asked = rotating(site)

    with pytest.raises(SessionEndedError):
        site.refresh(tokens, client_id=PORTAL)

    assert asked == [None]


def test_a_proof_is_compared_with_the_session_before_it_is_rotated(site: UseCaseSite) -> None:
    tokens = site.signed_in()
    asked = rotating(site)

    site.refresh(tokens, origin=site.proving(KEY))

    assert asked == [None]


@pytest.mark.parametrize(("shown", "accepted"), [(KEY, True), (PartyKey.make(), False), (None, False)])
def test_a_session_that_is_bound_to_a_key_is_refreshed_with_its_proof_only(
    site: UseCaseSite, shown: PartyKey | None, accepted: bool
) -> None:
    """A session of a public client is bound to its key; a confidential client authenticates itself instead.

    RFC 9449, section 5, has this rule.
    """
    site.signed_in(public=True)
    tokens = site.sign_in(origin=site.proving(KEY))
    asked: dict[str, Any] = {"client_id": PORTAL, "origin": site.proving(shown)}

    if accepted:
        assert site.key_of(site.refresh(tokens, **asked)) == site.key_of(tokens) is not None
        return
    with pytest.raises(DpopProofRefusedError, match="by the key of its sign-in"):
        site.refresh(tokens, **asked)
    assert site.session(tokens).latest == 0


def test_a_client_that_has_just_become_confidential_gets_no_token_without_its_secret(
    site: UseCaseSite,
) -> None:
    """The store already knows the new secret when this process, which does not, asks for the rotation."""
    tokens = site.signed_in(public=True)
    known = site.store.records.get(Client, PORTAL)
    assert known is not None
    stronger = replace(known.record, secrets=(StoredSecret(digest=b"d" * 32),))
    site.store.records.update(stronger, expected=known.revision)
    rotating(site)

    with pytest.raises(CredentialRefusedError):
        site.refresh(tokens, client=None, client_id=PORTAL)

    assert not site.audited("session_refreshed")


def test_a_token_that_was_rotated_but_refused_still_works_when_the_reason_is_gone(site: UseCaseSite) -> None:
    """No caller received the successor, so the token counts as one whose response was lost."""
    tokens = site.signed_in()
    site.update_client("portal", audiences=frozenset({"other"}))
    rotating(site)
    with pytest.raises(SessionEndedError):
        site.refresh(tokens)
    site.update_client("portal", audiences=frozenset({"api"}))
    site.pass_time(days=1)

    assert site.refresh(site.refresh(tokens)).refresh_token
