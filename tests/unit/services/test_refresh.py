"""Refresh: who may use a refresh token, what a session still grants, and concurrent refreshes."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from identity_service.domain.credential_errors import (
    CredentialRefusedError,
    RefreshTokenInvalidError,
    RefreshTokenReusedError,
    RefreshTokenSupersededError,
    SessionEndedError,
    WrongClientError,
)
from identity_service.domain.errors import (
    GrantNotAllowedError,
    IdentityError,
    NoSigningKeyError,
    ReplicaStaleError,
    ServerBusyError,
    TooManyAttemptsError,
)
from identity_service.domain.ids import KeyId
from identity_service.domain.principals import Grant, OnReuse
from identity_service.domain.secret import Secret
from identity_service.domain.sessions import MAX_ROTATIONS_IN_WINDOW
from identity_service.domain.tokens import AccessToken
from identity_service.services.authenticate import ClientAssertion
from identity_service.services.token_maker import TokenSet
from tests.jwts import assertion_claims
from tests.service_site import KEY
from tests.unit.services.use_case_site import (
    CALLER,
    UseCaseSite,
    before,
    failing,
)

GRACE = 60.0


def test_a_refresh_gives_the_next_tokens_of_the_session_and_is_recorded(site: UseCaseSite) -> None:
    tokens = site.signed_in()
    site.pass_time(minutes=5)

    refreshed = site.refresh(tokens, origin=CALLER)

    first, second = site.read(tokens), site.read(refreshed)
    assert isinstance(first, AccessToken)
    assert second == replace(
        first,
        token_id=refreshed.token_id,
        issue_time=first.issue_time + timedelta(minutes=5),
        expire_time=first.expire_time + timedelta(minutes=5),
    )
    assert refreshed.refresh_token != tokens.refresh_token
    assert refreshed.refresh_expire_time == tokens.refresh_expire_time
    assert site.audited("session_refreshed") == [
        {
            "outcome": "done",
            "actor": first.subject,
            "target": tokens.session_id,
            "client_id": "portal",
            "number": "1",
            "peer": CALLER.peer,
        }
    ]


@pytest.mark.parametrize("late", [0.0, GRACE])
def test_a_repeated_call_gets_the_same_refresh_token_within_the_grace(site: UseCaseSite, late: float) -> None:
    tokens = site.signed_in()
    first = site.refresh(tokens)
    site.pass_time(seconds=late)

    again = site.refresh(tokens)

    assert again.refresh_token == first.refresh_token
    assert again.token_id != first.token_id
    assert len(site.audited("session_refreshed")) == 1


def test_an_older_token_is_superseded_within_its_grace_and_the_session_lives(site: UseCaseSite) -> None:
    tokens = site.signed_in()
    newest = site.refresh(site.refresh(tokens))

    with pytest.raises(RefreshTokenSupersededError):
        site.refresh(tokens, origin=CALLER)

    assert site.audited("refresh_refused") == [
        {
            "outcome": "refused",
            "reason": "REFRESH_TOKEN_SUPERSEDED",
            "why": RefreshTokenSupersededError.message,
            "actor": "admin",
            "peer": CALLER.peer,
        }
    ]
    site.refresh(newest)


@pytest.mark.parametrize(
    ("app", "lives"),
    [
        ({}, False),
        ({"on_reuse": OnReuse.REFUSE}, True),
        ({"on_reuse": OnReuse.REFUSE, "public": True}, False),
        ({"public": True}, False),
    ],
    ids=["confidential", "confidential, refuse", "public, refuse", "public"],
)
def test_a_reused_token_ends_the_session_unless_the_client_proved_itself_and_is_spared(
    site: UseCaseSite, app: dict[str, Any], lives: bool
) -> None:
    tokens = site.signed_in(**app)
    subject, newest = site.session(tokens).subject, site.refresh(site.refresh(tokens))
    site.pass_time(seconds=GRACE + 1)

    with pytest.raises(RefreshTokenReusedError):
        site.refresh(tokens, origin=CALLER)

    (event,) = site.audited("refresh_token_reused")
    assert event == {
        "outcome": "refused",
        "actor": "admin",
        "target": tokens.session_id,
        "subject": subject,
        "client_id": "portal",
        "session_ended": "false" if lives else "true",
        "peer": CALLER.peer,
    }
    assert site.stored("refresh_token_reused") == ([] if lives else [event])
    assert not site.audited("refresh_refused"), "the reuse has an event of its own"
    assert site.reason(newest) == ("" if lives else "REVOKED")
    if lives:
        site.refresh(newest)


def test_a_session_that_is_refreshed_too_often_is_refused_for_now(site: UseCaseSite) -> None:
    tokens = site.signed_in()
    session, now = site.session(tokens), site.clock.now()
    times = dict.fromkeys(range(MAX_ROTATIONS_IN_WINDOW), now)
    site.store.sessions.replace(replace(session, rotate_times=times | {2000: now}), expected_version=1)

    with pytest.raises(TooManyAttemptsError):
        site.refresh(tokens)

    assert [event["reason"] for event in site.audited("refresh_refused")] == ["TOO_MANY_ATTEMPTS"]
    site.pass_time(seconds=GRACE + 1)
    site.refresh(tokens)


@pytest.mark.parametrize(
    ("public", "presents", "error"),
    [
        (False, {}, None),
        (False, {"client": None}, CredentialRefusedError),
        (False, {"client": "reports"}, WrongClientError),
        (True, {"client": None}, None),
        (True, {"client": None, "client_id": "portal"}, None),
        (True, {"client": None, "client_id": "reports"}, WrongClientError),
        (True, {"client": "reports"}, WrongClientError),
    ],
)
def test_only_the_client_of_the_session_may_use_its_token(
    site: UseCaseSite, public: bool, presents: dict[str, Any], error: type[IdentityError] | None
) -> None:
    site.new_client("reports")
    tokens = site.signed_in(public=public)
    request = {n: site.secret_of(v) if n == "client" and v else v for n, v in presents.items()}

    if error is None:
        site.refresh(tokens, **request)
        return
    with pytest.raises(error) as refused:
        site.refresh(tokens, **request)

    assert type(refused.value) is error
    assert [event["target"] for event in site.audited("refresh_refused")] == ["portal"]
    assert site.session(tokens).latest == 0


def test_a_client_that_lost_the_grant_refreshes_no_more(site: UseCaseSite) -> None:
    tokens = site.signed_in()
    site.update_client("portal", grants=frozenset({Grant.PASSWORD}))

    with pytest.raises(GrantNotAllowedError):
        site.refresh(tokens)

    assert [event["reason"] for event in site.audited("refresh_refused")] == ["GRANT_NOT_ALLOWED"]


# Races


def test_a_call_that_lost_a_race_gets_the_successor_of_the_winner(site: UseCaseSite) -> None:
    tokens = site.signed_in()
    won: list[TokenSet] = []
    before(site.store.sessions, "replace", lambda: won.append(site.refresh(tokens)))

    lost = site.refresh(tokens)

    assert lost.refresh_token == won[0].refresh_token
    assert site.session(tokens).latest == 1
    assert len(site.audited("session_refreshed")) == 1


def test_an_assertion_is_checked_once_although_the_call_lost_a_race(site: UseCaseSite) -> None:
    """An assertion works only once, so checking it again would refuse the client."""
    site.new_app(public_keys=(KEY.public_jwk,))
    site.new_user()
    proof, other = (
        ClientAssertion(jwt=Secret(KEY.jwt(assertion_claims("portal", site.clock.now())))) for _ in range(2)
    )
    assertion = ClientAssertion(jwt=Secret(KEY.jwt(assertion_claims("portal", site.clock.now()))))
    authenticated = site.use.authenticator.client(other)
    tokens = site.sign_in(credential=site.password(authenticated=authenticated))
    before(site.store.sessions, "replace", lambda: site.refresh(tokens, client=proof))

    assert site.refresh(tokens, client=assertion).refresh_token


@pytest.mark.parametrize(("lost", "error"), [(15, None), (16, ServerBusyError)])
def test_a_call_that_loses_sixteen_races_is_told_to_come_back(
    site: UseCaseSite, lost: int, error: type[IdentityError] | None
) -> None:
    tokens = site.signed_in()

    def overtake() -> None:
        state = site.store.sessions.read(site.session(tokens).session_id)
        assert state is not None
        real(state.session, expected_version=state.version)

    real = site.store.sessions.replace
    before(site.store.sessions, "replace", *[overtake] * lost)

    if error is None:
        site.refresh(tokens)
        return
    with pytest.raises(error):
        site.refresh(tokens)
    assert not site.audited("refresh_refused")


# Refusals without a session


def test_a_forged_token_is_refused_without_asking_the_store(site: UseCaseSite) -> None:
    tokens = site.signed_in()
    before(site.store.sessions, "read", failing(AssertionError("it is asked")))
    forged = replace(tokens, refresh_token=f"{(tokens.refresh_token or '')[:-8]}AAAAAAAA")

    with pytest.raises(RefreshTokenInvalidError):
        site.refresh(forged)

    assert [event["reason"] for event in site.audited("refresh_refused")] == ["REFRESH_TOKEN_INVALID"]


def test_the_token_of_a_session_that_the_store_never_had_is_refused(site: UseCaseSite) -> None:
    tokens = site.signed_in()
    site.store.sessions.read = lambda session_id, *, rotation=None: None  # type: ignore[method-assign]

    with pytest.raises(SessionEndedError):
        site.refresh(tokens)


def test_a_session_whose_refresh_key_is_lost_needs_the_key_again(site: UseCaseSite) -> None:
    tokens = site.signed_in()
    site.refresh(tokens)
    lost = replace(site.session(tokens), key_id=KeyId("lost"))
    site.store.sessions.replace(lost, expected_version=2)

    with pytest.raises(NoSigningKeyError, match="restore"):
        site.refresh(tokens)


def test_a_stale_process_refreshes_nothing(site: UseCaseSite) -> None:
    tokens = site.signed_in()
    site.clock.advance(timedelta(seconds=6))

    with pytest.raises(ReplicaStaleError):
        site.refresh(tokens)

    assert site.session(tokens).latest == 0
