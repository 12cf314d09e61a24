"""Properties of a store that hold for any values and any order of calls, checked against a small model."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from identity_service.domain.ids import PrincipalId, SessionId, TokenId, new_session_id, new_user_id
from identity_service.domain.log import GenerationRaised, SessionEnded, TokenDenied
from identity_service.domain.principals import Client, User
from identity_service.domain.revocations import Revocations
from identity_service.domain.store import Store
from tests.conformance.samples import a_client, a_session, a_user

# One store serves all examples of a test, as one store serves all callers: ids are new in each example.
cheap = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
START = datetime(2100, 1, 1, tzinfo=UTC)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
times = st.integers(1, 30 * 86_400).map(lambda s: START + timedelta(seconds=s))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@cheap
@given(
    display_name=texts,
    names=st.frozensets(texts, max_size=4),
    max_lifetime=st.none() | st.integers(1, 86_400).map(lambda s: timedelta(seconds=s)),
)
def test_any_client_comes_back_as_it_was(
    store: Store, display_name: str, names: frozenset[str], max_lifetime: timedelta | None
) -> None:
    client = a_client(
        new_user_id(), display_name=display_name, audiences=names, scopes=names, max_lifetime=max_lifetime
    )
    store.records.create(client)
    found = store.records.get(Client, client.id)
    assert found is not None
    assert found.record == client


@cheap
@given(prefix=texts, password_hash=st.none() | texts)
def test_any_user_comes_back_by_id_and_by_name(store: Store, prefix: str, password_hash: str | None) -> None:
    user_id = new_user_id()
    user = a_user(user_id, f"{user_id} {prefix}", password_hash=password_hash)
    store.records.create(user)
    found = store.records.get(User, user_id)
    assert found is not None
    assert found.record == user
    assert store.records.find_user(user.username) == found


@cheap
@given(
    claims=st.dictionaries(texts, json_values, max_size=4), device=texts, times=st.lists(times, max_size=5)
)
def test_any_session_comes_back_as_it_was(
    store: Store, claims: Mapping[str, object], device: str, times: list[datetime]
) -> None:
    session = a_session(new_session_id(), claims=claims, device=device, rotate_times=dict(enumerate(times)))
    store.sessions.create(session)
    state = store.sessions.read(session.session_id)
    assert state is not None
    assert state.session == session


deny_calls = st.tuples(st.just("deny"), st.sampled_from("abc"), times, times)
end_calls = st.tuples(st.just("end"), st.sampled_from("abc"), times, times)
raise_calls = st.tuples(st.just("raise"), st.sampled_from("abc*"), st.integers(0, 5), st.none())


@cheap
@given(calls=st.lists(deny_calls | end_calls | raise_calls, max_size=15))
def test_the_log_holds_every_fact_once_and_folds_to_the_state(
    store: Store, calls: list[tuple[str, str, Any, Any]]
) -> None:
    """The model predicts the new facts of each call: the log must have exactly one entry for each of them."""
    begin = store.log.head().position
    example = new_session_id()
    denied: dict[str, datetime] = {}
    ended: dict[str, tuple[datetime, datetime]] = {}
    raised: dict[str, int] = {}
    expected: list[object] = []
    for kind, letter, first, second in calls:
        id_ = f"{example}-{letter}"
        match kind:
            case "deny":
                store.facts.deny_token(TokenId(id_), first)
                if id_ not in denied or first > denied[id_]:
                    denied[id_] = first
                    expected.append(TokenDenied(token_id=TokenId(id_), deny_until=first))
            case "end":
                store.facts.end_session(SessionId(id_), deny_until=first, end_until=second)
                held = ended.get(id_, (START, START))
                grown = (max(held[0], first), max(held[1], second))
                if grown != held:
                    ended[id_] = grown
                    expected.append(
                        SessionEnded(session_id=SessionId(id_), deny_until=grown[0], end_until=grown[1])
                    )
            case _:
                principal = PrincipalId(id_)
                store.facts.raise_generation(principal, above=first, request_id=None)
                raised[id_] = max(raised.get(id_, 0), first) + 1
                expected.append(GenerationRaised(principal=principal, number=raised[id_]))
    entries = store.log.read(begin, 100).entries
    assert [e.change for e in entries] == expected
    folded = Revocations()
    for entry in entries:
        folded.apply(entry.change, entry.link)
    mine = {p: g for p, g in store.log.generations().items() if p.startswith(example)}
    assert folded.generations == mine
    assert {p: g.number for p, g in mine.items()} == raised
