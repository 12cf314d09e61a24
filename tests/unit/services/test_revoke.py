"""Revoke: what each target revokes, for how long, and the outcome if the store does not confirm it."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from identity_service.composition.opening import open_vault
from identity_service.domain.credential_errors import SessionEndedError
from identity_service.domain.errors import ReplicaStaleError, StoreUnavailableError, TokenNotOpenableError
from identity_service.domain.grants import GrantRequest
from identity_service.domain.ids import EVERYONE, Link, PrincipalId, TokenId
from identity_service.domain.keys import FIXED_ALGORITHMS, KeyPurpose
from identity_service.domain.log import Generation, GenerationRaised, Marks, SessionEnded, TokenDenied
from identity_service.domain.revocations import whole_minute
from identity_service.domain.secret import Secret
from identity_service.domain.tokens import TokenEncryption
from identity_service.jose.encryption_keys import generate_service_key
from identity_service.services.revoke import ByPrincipal, BySession, ByToken, ByTokenId, Target
from identity_service.services.token_maker import TokenSet
from tests.unit.services.use_case_site import CALLER, UseCaseSite, before, open_site, unreachable

LIFETIME, SESSION, LEEWAY = timedelta(hours=24), timedelta(days=30), timedelta(seconds=10)
"""The longest lifetimes of tokens and sessions that the settings allow, and the leeway."""
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
Choose = Callable[[TokenSet], Target]

BY: dict[str, Choose] = {
    "access token": lambda tokens: ByToken(token=Secret(tokens.access_token)),
    "refresh token": lambda tokens: ByToken(token=Secret(tokens.refresh_token or "")),
    "token id": lambda tokens: ByTokenId(token_id=tokens.token_id),
    "session": lambda tokens: BySession(session_id=tokens.session_id),  # type: ignore[arg-type]
    "client": lambda tokens: ByPrincipal(principal=PrincipalId("portal")),
    "service": lambda tokens: ByPrincipal(principal=EVERYONE),
}
TOKEN, SESSION_, PRINCIPAL = "token_revoked", "session_revoked", "principal_revoked"


@pytest.fixture
def tokens(site: UseCaseSite) -> TokenSet:
    """Yield the tokens of a user."""
    site.new_app()
    site.new_user()
    return site.sign_in()


@pytest.mark.parametrize(
    ("by", "type_", "same_session", "other_session"),
    [
        ("access token", TOKEN, "", ""),
        ("token id", TOKEN, "", ""),
        ("refresh token", SESSION_, "REVOKED", ""),
        ("session", SESSION_, "REVOKED", ""),
        ("client", PRINCIPAL, "REVOKED", "REVOKED"),
        ("service", PRINCIPAL, "REVOKED", "REVOKED"),
    ],
)
def test_each_target_ends_exactly_what_it_names_at_once_and_everywhere(
    site: UseCaseSite, tokens: TokenSet, by: str, type_: str, same_session: str, other_session: str
) -> None:
    site.clock.advance(SECOND)
    refreshed, other = site.refresh(tokens), site.sign_in()
    elsewhere = site.other_process()
    target = BY[by](tokens)

    revision = site.revoke(target, reason="stolen", origin=CALLER)

    elsewhere.replica.reach(revision)
    for process in (site, elsewhere):
        answers = [process.reason(each) for each in (tokens, refreshed, other)]
        assert answers == ["REVOKED", same_session, other_session]
    assert revision == site.store.log.head().revision
    (event,) = site.audited(type_)
    assert site.stored(type_) == [event]
    named = {"actor": "admin", "peer": CALLER.peer, "reason": "stolen", "outcome": "done"}
    wanted = {
        TOKEN: tokens.token_id,
        SESSION_: tokens.session_id,
        PRINCIPAL: getattr(target, "principal", ""),
    }
    assert event == named | {"target": wanted[type_]}


@pytest.mark.parametrize("by", ["refresh token", "session", "client", "service"])
def test_a_session_that_was_revoked_is_refreshed_no_more(
    site: UseCaseSite, tokens: TokenSet, by: str
) -> None:
    site.revoke(BY[by](tokens))

    with pytest.raises(SessionEndedError):
        site.refresh(tokens)


def ends(site: UseCaseSite) -> tuple[timedelta, timedelta]:
    """Return how long the last denial in the log lasts from now, for access and for refresh tokens."""
    last, now = site.changes()[-1], site.clock.now()
    assert isinstance(last, TokenDenied | SessionEnded)
    return last.deny_until - now, (last.end_until if isinstance(last, SessionEnded) else now) - now


DENIALS: dict[str, tuple[timedelta, timedelta]] = {
    "access token": (timedelta(minutes=16), timedelta(0)),
    "token id": (LIFETIME + MINUTE, timedelta(0)),
    "refresh token": (LIFETIME + MINUTE, SESSION + LEEWAY),
    "session": (LIFETIME + MINUTE, SESSION + LEEWAY),
}
"""The duration of denials by default: with the leeway of 10 s; for access tokens rounded up to a minute."""


@pytest.mark.parametrize("by", DENIALS)
def test_a_denial_lasts_until_everything_that_it_concerns_has_expired(
    site: UseCaseSite, tokens: TokenSet, by: str
) -> None:
    site.revoke(BY[by](tokens))

    assert ends(site) == DENIALS[by]


@pytest.mark.parametrize("known_to", ["the store", "the replica"])
def test_the_longest_durations_ever_configured_count(
    site: UseCaseSite, tokens: TokenSet, known_to: str
) -> None:
    """A process that had longer lifetimes in its settings may have issued the token."""
    longer = Marks(lifetime=2 * LIFETIME, session=2 * SESSION, leeway=timedelta(seconds=70))
    if known_to == "the store":
        site.store.log.heartbeat("elsewhere", marks=longer)
    else:
        site.replica.marks = longer

    found = {}
    for by in DENIALS:
        site.revoke(BY[by](site.sign_in()))
        found[by] = ends(site)

    assert found == {
        "access token": (timedelta(minutes=17), timedelta(0)),
        "token id": (2 * LIFETIME + 2 * MINUTE, timedelta(0)),
        "refresh token": (2 * LIFETIME + 2 * MINUTE, 2 * SESSION + longer.leeway),
        "session": (2 * LIFETIME + 2 * MINUTE, 2 * SESSION + longer.leeway),
    }


@pytest.mark.parametrize(
    ("ahead", "later"),
    [(LEEWAY, timedelta(0)), (LEEWAY + SECOND, LEEWAY + SECOND + MINUTE + LEEWAY)],
    ids=["within the leeway", "by more than the leeway"],
)
def test_a_clock_that_was_ahead_for_a_moment_makes_denials_last_longer(
    site: UseCaseSite, tokens: TokenSet, ahead: timedelta, later: timedelta
) -> None:
    """The process may have issued tokens by that clock until one minute after its next heartbeat."""
    site.clock.step(ahead)
    site.store.log.heartbeat("elsewhere")
    site.clock.step(-ahead)

    site.revoke(BY["session"](tokens))

    assert ends(site)[1] == SESSION + LEEWAY + later


@pytest.mark.parametrize(("time", "later"), [(-MINUTE, timedelta(0)), (MINUTE, MINUTE)])
def test_a_clock_that_was_set_back_does_not_shorten_denials(
    site: UseCaseSite, tokens: TokenSet, time: timedelta, later: timedelta
) -> None:
    site.store.log.heartbeat("elsewhere", marks=Marks(time=site.clock.now() + time))

    site.revoke(BY["session"](tokens))

    assert ends(site)[1] == SESSION + LEEWAY + later


@pytest.mark.parametrize(("longer", "written"), [(timedelta(0), 1), (SECOND, 0)])
def test_only_a_token_that_expired_more_than_36_hours_ago_needs_no_denial(
    site: UseCaseSite, longer: timedelta, written: int
) -> None:
    site.new_client()
    tokens = site.client_token()
    site.pass_time(hours=36, minutes=15, seconds=longer.total_seconds())
    count = len(site.changes())

    revision = site.revoke(ByToken(token=Secret(tokens.access_token)))

    assert len(site.changes()) == count + written
    assert revision == site.store.log.head().revision


@pytest.mark.parametrize(
    "text",
    [
        lambda tokens: forged(tokens.access_token),
        lambda tokens: forged(tokens.refresh_token or ""),
        lambda _: "no token at all",
    ],
    ids=["access token", "refresh token", "another text"],
)
def test_a_text_that_this_service_did_not_issue_changes_nothing_and_costs_no_read(
    site: UseCaseSite, tokens: TokenSet, text: Callable[[TokenSet], str]
) -> None:
    site.store.facts.deny_token(TokenId("of another process"), site.clock.now())
    known, count = site.replica.revision, len(site.changes())

    revision = site.revoke(ByToken(token=Secret(text(tokens))))

    assert revision == known == site.replica.revision
    assert len(site.changes()) == count


@pytest.mark.parametrize("by", ["access token", "refresh token"])
def test_a_token_of_a_key_that_no_process_has_changes_nothing(
    site: UseCaseSite, tokens: TokenSet, by: str
) -> None:
    with open_site() as another_service:
        another_service.new_app()
        another_service.new_user()
        target = BY[by](another_service.sign_in())
    count = len(site.changes())

    assert site.revoke(target) == site.replica.revision

    assert len(site.changes()) == count


def forged(text: str) -> str:
    """Change one character of a signature or a MAC."""
    return text[:-9] + ("A" if text[-9] != "A" else "B") + text[-8:]


@pytest.mark.parametrize("purpose", KeyPurpose)
def test_a_token_of_a_key_that_another_process_made_just_now_is_revoked(
    site: UseCaseSite, tokens: TokenSet, purpose: KeyPurpose
) -> None:
    elsewhere = site.other_process()
    algorithm = FIXED_ALGORITHMS.get(purpose, "ES256")
    site.clock.advance(SECOND)
    site.store.records.create(open_vault(site.settings).make(purpose, algorithm, site.clock.now()))
    elsewhere.replica.catch_up()
    made = elsewhere.sign_in(encryption=TokenEncryption.SERVICE)

    site.revoke(BY["refresh token" if purpose is KeyPurpose.REFRESH else "access token"](made))

    assert site.reason(made) == "REVOKED"


def test_a_token_that_is_encrypted_to_its_audience_is_revoked_by_its_id_only(site: UseCaseSite) -> None:
    site.new_client()
    key = generate_service_key().public_jwk
    site.new_client("api", encryption_key=key)
    made = site.client_token(encryption=TokenEncryption.AUDIENCE, grant=GrantRequest(audiences=("api",)))

    with pytest.raises(TokenNotOpenableError) as refused:
        site.revoke(ByToken(token=Secret(made.access_token)))

    assert [violation.field for violation in refused.value.violations] == ["token"]
    site.revoke(ByTokenId(token_id=made.token_id))
    assert site.changes()[-1] == TokenDenied(
        token_id=made.token_id, deny_until=whole_minute(site.clock.now() + LIFETIME + LEEWAY)
    )


@pytest.mark.parametrize(
    ("by", "method"),
    [
        ("access token", "deny_token"),
        ("token id", "deny_token"),
        ("session", "end_session"),
        ("client", "raise_generation"),
    ],
)
def test_a_revocation_that_the_store_does_not_confirm_is_enforced_at_once_and_sent_again(
    site: UseCaseSite, tokens: TokenSet, by: str, method: str
) -> None:
    count = len(site.changes())
    before(site.store.facts, method, unreachable)

    with pytest.raises(StoreUnavailableError):
        site.revoke(BY[by](tokens))

    assert site.reason(tokens) == "REVOKED"
    assert len(site.changes()) == count
    assert not {TOKEN, SESSION_, PRINCIPAL} & set(site.event_log.names), "nothing is claimed to be revoked"
    site.replica.maintenance.do()
    last = site.changes()[-1]
    if by == "client":
        assert isinstance(last, GenerationRaised)
        assert (last.principal, last.number) == ("portal", 1)
    else:
        assert ends(site) == DENIALS[by]
    assert site.other_process().reason(tokens) == "REVOKED"


@pytest.mark.parametrize("by", ["access token", "session"])
def test_a_denial_is_enforced_although_the_store_does_not_even_tell_its_marks(
    site: UseCaseSite, tokens: TokenSet, by: str
) -> None:
    before(site.store.log, "head", unreachable)

    with pytest.raises(StoreUnavailableError):
        site.revoke(BY[by](tokens))

    assert site.reason(tokens) == "REVOKED"


def test_a_raise_is_above_what_the_store_has_lost(site: UseCaseSite, tokens: TokenSet) -> None:
    known = Generation(number=3, link=Link("lost"))
    site.replica.revocations.raise_to(PrincipalId("portal"), known)

    site.revoke(BY["client"](tokens))

    assert site.store.log.generations()[PrincipalId("portal")].number == 4


def test_a_raise_that_the_store_does_not_confirm_is_above_what_the_replica_knows(
    site: UseCaseSite, tokens: TokenSet
) -> None:
    site.revoke(BY["client"](tokens))
    later = site.sign_in()
    before(site.store.facts, "raise_generation", unreachable)

    with pytest.raises(StoreUnavailableError):
        site.revoke(BY["client"](later))

    assert site.reason(later) == "REVOKED"
    assert site.replica.revocations.generations[PrincipalId("portal")].number == 2


@pytest.mark.parametrize(("ids", "number"), [(("a", "a"), 1), (("a", "b"), 2), ((None, None), 2)])
def test_calls_with_one_request_id_raise_a_generation_once(
    site: UseCaseSite, tokens: TokenSet, ids: tuple[str | None, ...], number: int
) -> None:
    for request_id in ids:
        site.revoke(BY["client"](tokens), request_id=request_id)

    assert site.store.log.generations()[PrincipalId("portal")].number == number


def test_a_stale_process_revokes_nothing(site: UseCaseSite, tokens: TokenSet) -> None:
    count = len(site.changes())
    site.clock.advance(timedelta(seconds=6))

    for choose in BY.values():
        with pytest.raises(ReplicaStaleError):
            site.revoke(choose(tokens))

    assert len(site.changes()) == count
