"""The state that a client builds from a watch: which tokens it refuses, and how long it keeps facts."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from identity_client.access_tokens import SignedToken
from identity_client.trust import GenerationRaised, KeySet, PublicKey, SessionEnded, TokenDenied, WatchEvent
from identity_client.trust_state import TrustState
from identity_client.values import Actor, Verified
from identity_service.jose import keys

NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)


def signed(generations: dict[str, tuple[int, str]] | None = None, **changes: object) -> SignedToken:
    values: dict[str, object] = {
        "issuer": "i",
        "subject": "ana",
        "audiences": ("api",),
        "client_id": "portal",
        "scopes": (),
        "token_id": "t1",
        "session_id": "s1",
        "issue_time": NOW,
        "expire_time": NOW + timedelta(minutes=15),
        "auth_time": None,
        "actors": (Actor(subject="orders", client_id="o"), Actor(subject="stock", client_id="")),
        "may_act": None,
        "claims": {},
        "certificate_sha256": b"",
        "revision": "",
    } | changes
    return SignedToken(
        claims=Verified(**values),  # type: ignore[arg-type]
        key_id="k1",
        valid_from=0,
        valid_until=1,
        generations=generations or {},
    )


def state_after(*revocations: TokenDenied | SessionEnded | GenerationRaised) -> TrustState:
    state = TrustState()
    state.fold(WatchEvent(revocations=revocations))
    return state


def raised(principal: str, number: int = 1, link: str = "a") -> GenerationRaised:
    return GenerationRaised(principal=principal, number=number, link=link)


def refuses(state: TrustState, token: SignedToken) -> bool:
    return state.why_revoked(token) is not None


def test_nothing_is_refused_that_was_not_taken_back() -> None:
    state = state_after(
        TokenDenied(token_id="t2", deny_until=NOW),
        SessionEnded(session_id="s2", deny_until=NOW),
        *map(raised, ("bob", "*key:k2", "key:k1", "k1", "")),
    )

    assert not refuses(state, signed())
    assert not refuses(state, signed(session_id=""))


@pytest.mark.parametrize("principal", ["*", "ana", "portal", "orders", "o", "stock", "*key:k1", "held"])
def test_every_principal_of_a_token_counts(principal: str) -> None:
    """They are the key that signed the token, every actor, and every principal in `gen`."""
    token = signed({"held": (0, "")})

    why = state_after(raised(principal)).why_revoked(token)
    assert why is not None
    assert ("a key that" in why) is (principal == "*key:k1"), "it says which"
    assert refuses(state_after(raised("bob"), raised(principal)), token)
    assert not refuses(state_after(raised("bob")), token)


@pytest.mark.parametrize(
    ("held", "refused"),
    [
        ((2, "b"), False),
        ((3, "c"), False),
        ((2, "other"), True),
        ((1, "a"), True),
        ((0, ""), True),
        (None, True),
    ],
)
def test_a_token_must_have_been_issued_after_the_raise(held: tuple[int, str] | None, refused: bool) -> None:
    state = state_after(raised("ana", 1, "a"), raised("ana", 2, "b"), raised("ana", 1, "a"))
    token = signed({"ana": held} if held is not None else None)

    assert refuses(state, token) is refused


def test_two_raises_to_one_number_refuse_the_tokens_of_both_until_the_next() -> None:
    state = state_after(raised("ana", 1, "a"), raised("ana", 1, "b"), raised("ana", 1, "a"))

    assert refuses(state, signed({"ana": (1, "a")}))
    assert refuses(state, signed({"ana": (1, "b")}))
    state.fold(WatchEvent(revocations=(raised("ana", 2, "c"),)))
    assert not refuses(state, signed({"ana": (2, "c")}))


def test_a_raise_of_another_history_refuses_the_tokens_of_both_until_the_next_raise() -> None:
    """A store was restored by hand, and then the principal was raised again, to a lower number."""
    state = state_after(raised("ana", 5, "lost"))
    state.fold(WatchEvent(restarted=True))
    state.fold(WatchEvent(revocations=(raised("ana", 4, "new"),), revision="e.9.x"))
    for held in ((5, "lost"), (4, "new")):
        assert refuses(state, signed({"ana": held}))

    state.fold(WatchEvent(revocations=(raised("ana", 6, "repaired"),)))
    assert not refuses(state, signed({"ana": (6, "repaired")}))


def test_a_raise_after_a_second_snapshot_refuses_tokens_of_the_remembered_history() -> None:
    state = state_after(raised("ana", 5, "lost"))
    state.fold(WatchEvent(restarted=True))
    state.fold(WatchEvent(revision="e.9.x"))
    assert not refuses(state, signed({"ana": (5, "lost")}))
    state.fold(WatchEvent(revocations=(raised("ana", 1, "new"),)))
    assert refuses(state, signed({"ana": (5, "lost")}))


def test_a_raise_that_a_lagging_process_repeats_is_not_doubted() -> None:
    state = state_after(raised("ana", 5, "e"))
    for _ in range(2):  # a stream that ends during a snapshot is begun anew
        state.fold(WatchEvent(restarted=True))
        state.fold(WatchEvent(revocations=(raised("ana", 4, "d"),)))
        assert refuses(state, signed({"ana": (5, "e")}))
    state.fold(WatchEvent(revocations=(raised("ana", 5, "e"),)))
    assert not refuses(state, signed({"ana": (5, "e")}))
    state.fold(WatchEvent(revocations=(raised("ana", 4, "d"),)))
    assert not refuses(state, signed({"ana": (5, "e")}))


@pytest.mark.parametrize(
    ("held", "ahead"),
    [({}, False), ({"ana": (2, "a")}, False), ({"ana": (3, "a")}, True), ({"portal": (1, "a")}, True)],
)
def test_a_token_with_a_higher_generation_than_the_known_one_is_ahead(
    held: dict[str, tuple[int, str]], ahead: bool
) -> None:
    assert state_after(raised("ana", 2)).is_ahead(signed(held)) is ahead


def test_a_denial_is_kept_until_its_end_and_may_be_extended() -> None:
    def denied(minutes: float) -> WatchEvent:
        return WatchEvent(
            revocations=(TokenDenied(token_id="t1", deny_until=NOW + timedelta(minutes=minutes)),)
        )

    state, token = TrustState(), signed()
    for minutes in (5, 10, 1):
        state.fold(denied(minutes))
    state.evict((NOW + timedelta(minutes=9.9)).timestamp())
    assert refuses(state, token)
    state.evict((NOW + timedelta(minutes=12)).timestamp())
    assert not refuses(state, token)


def test_the_state_is_incomplete_before_the_first_revision_and_during_a_snapshot() -> None:
    state = TrustState()
    steps: Sequence[tuple[WatchEvent, bool]] = [
        (WatchEvent(restarted=True), False),
        (WatchEvent(revocations=(raised("bob"),)), False),
        (WatchEvent(revision="e.1"), True),
        (WatchEvent(revision="e.2"), True),
        (WatchEvent(restarted=True), False),
        (WatchEvent(revocations=(raised("ana"),)), False),
        (WatchEvent(revision="f.1"), True),
    ]

    for event, complete in steps:
        state.fold(event)
        assert state.complete is complete, event
    assert refuses(state, signed()), "what was known stays known"


def test_a_set_of_keys_replaces_the_one_before_and_a_retired_key_stays_so() -> None:
    made = [keys.generate("ES256") for _ in range(2)]
    published = [
        PublicKey(
            key_id=key.key_id, algorithm="ES256", state="SIGNING", jwk=key.public_jwk or "", activate_time=NOW
        )
        for key in made
    ]

    def key_set(*some: PublicKey) -> WatchEvent:
        return WatchEvent(keys=KeySet(jwks="", keys=some, max_age=timedelta(minutes=1)))

    state = TrustState()
    state.fold(key_set(*published))
    first = state.keys[made[0].key_id]
    state.fold(key_set(published[0]))
    assert state.keys == {made[0].key_id: first}, "opened once"
    # A process that lags behind may publish it for a moment longer.
    state.fold(WatchEvent(revocations=(raised(f"*key:{made[0].key_id}"),)))
    state.fold(key_set(*published))
    token = SignedToken(
        claims=signed().claims, key_id=made[0].key_id, valid_from=0, valid_until=1, generations={}
    )
    assert refuses(state, token)


def test_a_malformed_public_key_is_refused() -> None:
    bad = PublicKey(key_id="k", algorithm="ES256", state="SIGNING", jwk='{"kty":"EC"}', activate_time=NOW)

    with pytest.raises(ValueError, match="key"):
        TrustState().fold(WatchEvent(keys=KeySet(jwks="", keys=(bad,), max_age=timedelta(0)), revision="e.1"))


def test_the_cost_does_not_grow_with_the_number_of_raised_principals() -> None:
    """Raised principals are never forgotten, so their number grows."""

    def cost(state: TrustState) -> float:
        token = signed()
        best = float("inf")
        for _ in range(5):
            begun = time.perf_counter()
            for _ in range(100):
                assert state.why_revoked(token) is None
            best = min(best, time.perf_counter() - begun)
        return best

    assert cost(state_after(*(raised(f"user{i}") for i in range(50_000)))) < 20 * cost(
        state_after(raised("bob"))
    )


def test_a_watch_that_ends_during_a_snapshot_begins_anew() -> None:
    """The service would recognise the earlier revision, and not repeat facts that the client has dropped."""
    state = TrustState()
    state.fold(WatchEvent(restarted=True))
    state.fold(WatchEvent(revision="e.5.l"))
    assert (state.revision, state.complete) == ("e.5.l", True)

    state.fold(WatchEvent(restarted=True))
    assert (state.revision, state.complete) == ("", False)
    state.fold(WatchEvent(restarted=True, revision="e.6.l"))
    assert (state.revision, state.complete) == ("e.6.l", True)
