"""A plain rotation of a refresh token: a Redis script reads and rotates the session in one round trip.

The script rotates as `decide_refresh` would. All sessions that are not plain, such as bound ones, are left to
the caller.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from identity_service.domain.copying import Fence
from identity_service.domain.errors import StoreDamagedError
from identity_service.domain.ids import (
    EVERYONE,
    Epoch,
    KeyId,
    PrincipalId,
    SessionId,
    new_epoch,
    new_session_id,
)
from identity_service.domain.log import Generation
from identity_service.domain.sessions import (
    NO_PARENT,
    PlainRotation,
    Rotated,
    Session,
    SessionState,
    decide_refresh,
)
from identity_service.domain.tokens import TokenEncryption
from identity_service.storage.redis import RedisStore
from tests.conformance.backends import RedisBackend
from tests.conformance.samples import LATER, a_session
from tests.redis_server import RedisServer

SID: Final = SessionId("session-1")
GRACE: Final = timedelta(seconds=60)
RAISED: Final = PrincipalId("u_1")


@pytest.fixture
def backend(redis_server: RedisServer) -> RedisBackend:
    return RedisBackend(redis_server)


@pytest.fixture
def store(backend: RedisBackend) -> RedisStore:
    store = backend.open()
    assert isinstance(store, RedisStore)
    store.initialise(new_epoch())
    return store


def plain_session(session_id: str = SID, **changes: Any) -> Session:
    """Return a session that is bound to no key or certificate, and whose latest refresh token is number 7."""
    free: dict[str, Any] = {"generations": {}, "certificate_sha256": None, "key_sha256": None}
    return a_session(session_id, **(free | changes))


def asking(shown: int = 7, **changes: Any) -> PlainRotation:
    values: dict[str, Any] = {"client_id": PrincipalId("billing"), "key_id": KeyId("refresh-2")}
    return PlainRotation(shown=shown, grace=GRACE, **(values | changes))


def read(
    store: RedisStore, session_id: SessionId = SID, rotation: PlainRotation | None = None
) -> SessionState:
    state = store.sessions.read(session_id, rotation=rotation)
    assert state is not None
    return state


def decided(state: SessionState, shown: int = 7) -> Session:
    decision = decide_refresh(state.session, shown, now=state.time, grace=GRACE, key_id=KeyId("refresh-2"))
    assert isinstance(decision, Rotated)
    return decision.session


def test_the_latest_token_is_rotated_by_the_read_and_the_state_is_that_before_it(store: RedisStore) -> None:
    store.sessions.create(plain_session())
    before = read(store)

    state = read(store, rotation=asking())

    assert state.rotated
    assert (state.session, state.version) == (before.session, before.version)
    after = read(store)
    assert after.version == before.version + 1
    assert after.session == decided(state)
    assert not after.rotated


def test_a_first_refresh_is_rotated_too(store: RedisStore) -> None:
    store.sessions.create(plain_session(latest=0, parent=NO_PARENT, refresh_time=None, rotate_times={}))

    state = read(store, rotation=asking(shown=0))

    assert state.rotated
    assert read(store).session == decided(state, shown=0)


def test_the_times_of_earlier_rotations_stay_until_their_window_is_over(
    store: RedisStore, backend: RedisBackend
) -> None:
    now = backend.clock.now()
    times = {4: now - timedelta(seconds=62), 5: now - GRACE, 6: now - timedelta(seconds=1)}
    store.sessions.create(plain_session(rotate_times=times))

    assert read(store, rotation=asking()).rotated

    assert read(store).session.rotate_times == {5: times[5], 6: times[6], 7: now}


def test_a_session_under_the_generations_of_today_is_rotated(store: RedisStore) -> None:
    for principal in (EVERYONE, "u_1", "billing", "stranger"):
        store.facts.raise_generation(PrincipalId(principal), above=0, request_id=None)
    current = {p: g for p, g in store.log.generations().items() if p != "stranger"}
    store.sessions.create(plain_session(generations=current))

    assert read(store, rotation=asking()).rotated


def ended(store: RedisStore) -> None:
    store.facts.end_session(SID, deny_until=LATER, end_until=LATER)


def raised(principal: str) -> Callable[[RedisStore], object]:
    return lambda store: store.facts.raise_generation(PrincipalId(principal), above=0, request_id=None)


def unchanged(_: RedisStore) -> None:
    pass


OF_ANOTHER_HISTORY: Final = {RAISED: Generation.parse("3.l-3")}
UNPLAIN: Final[Mapping[str, tuple[dict[str, Any], PlainRotation, Callable[[RedisStore], object]]]] = {
    "the parent": ({}, asking(6), unchanged),
    "an older token": ({}, asking(3), unchanged),
    "a token ahead": ({}, asking(8), unchanged),
    "another client": ({}, asking(client_id=PrincipalId("reports")), unchanged),
    "bound to a certificate": ({"certificate_sha256": b"c" * 32}, asking(), unchanged),
    "bound to a key": ({"key_sha256": b"k" * 32}, asking(), unchanged),
    "encrypted to the service": ({"encryption": TokenEncryption.SERVICE}, asking(), unchanged),
    "encrypted to the audience": ({"encryption": TokenEncryption.AUDIENCE}, asking(), unchanged),
    "ended": ({}, asking(), ended),
    "everything revoked": ({}, asking(), raised("*")),
    "subject revoked": ({}, asking(), raised("u_1")),
    "client revoked": ({}, asking(), raised("billing")),
    "a generation that the store lacks": ({"generations": OF_ANOTHER_HISTORY}, asking(), unchanged),
    "a generation with another link": ({"generations": OF_ANOTHER_HISTORY}, asking(), raised("u_1")),
    "a generation of a third principal": (
        {"generations": {PrincipalId("third"): Generation.parse("1.l-1")}},
        asking(),
        unchanged,
    ),
    "a store that was moved": (
        {},
        asking(),
        lambda store: store.copying.fence(Fence(target="sqlite:///new.db", epoch=Epoch("e2"))),
    ),
    "a process of another epoch": ({}, asking(), lambda store: store.log.adopt(Epoch("another"))),
}


@pytest.mark.parametrize(("changes", "rotation", "happens"), UNPLAIN.values(), ids=UNPLAIN.keys())
def test_anything_else_is_left_to_the_caller(
    store: RedisStore,
    changes: dict[str, Any],
    rotation: PlainRotation,
    happens: Callable[[RedisStore], object],
) -> None:
    store.sessions.create(plain_session(**changes))
    happens(store)
    before = read(store)

    state = read(store, rotation=rotation)

    assert not state.rotated
    assert state == before
    assert read(store) == before


def test_a_session_that_has_ended_by_its_mark_alone_is_left(store: RedisStore, backend: RedisBackend) -> None:
    store.sessions.create(plain_session())
    ended(store)
    backend.forget_end(SID)

    assert not read(store, rotation=asking()).rotated


def test_a_session_that_ended_before_it_was_stored_is_left(store: RedisStore) -> None:
    """The script leaves it to the caller: after a failover, the record may lack the mark of its end."""
    ended(store)
    store.sessions.create(plain_session())

    assert not read(store, rotation=asking()).rotated


def test_a_session_that_has_expired_is_not_there(store: RedisStore, backend: RedisBackend) -> None:
    store.sessions.create(plain_session(expire_time=backend.clock.now() + timedelta(minutes=1)))
    version = read(store).version
    backend.clock.advance(timedelta(minutes=1))

    assert store.sessions.read(SID, rotation=asking()) is None

    with backend.client() as client:
        assert client.hget(f"idn:s:{{{SID}}}", "v") == str(version)


def test_a_session_that_is_rotated_very_often_is_left(store: RedisStore, backend: RedisBackend) -> None:
    """The script leaves it to the caller to shorten the list of rotation times in the record."""
    times = dict.fromkeys(range(200), backend.clock.now())
    store.sessions.create(plain_session(latest=200, parent=199, rotate_times=times))

    assert not read(store, rotation=asking(200)).rotated


def test_a_record_in_another_order_is_left(store: RedisStore, backend: RedisBackend) -> None:
    store.sessions.create(plain_session())
    with backend.client() as client:
        key = f"idn:s:{{{SID}}}"
        value = client.hget(key, "d")
        client.hset(key, "d", value.removesuffix("}") + ',"new":1}')

    assert not read(store, rotation=asking()).rotated


@pytest.mark.parametrize("value", ["{", "[]", "7", "{}", '{"gen":1,"latest":7}'])
def test_a_damaged_record_is_named(store: RedisStore, backend: RedisBackend, value: str) -> None:
    store.sessions.create(plain_session())
    with backend.client() as client:
        client.hset(f"idn:s:{{{SID}}}", "d", value)

    with pytest.raises(StoreDamagedError, match="idn:s:"):
        store.sessions.read(SID, rotation=asking())


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
tails = st.builds(
    lambda latest: {
        "key": "k",
        "latest": latest,
        "parent": latest,
        "refresh": 1.5,
        "times": {"1": 2.5},
        "gen": {},
        "jkt": None,
    },
    st.integers(0, 9),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(claims=st.dictionaries(texts, json_values | tails, max_size=3) | tails, device=texts)
def test_a_rotation_changes_nothing_else_whatever_the_session_holds(
    store: RedisStore, claims: Mapping[str, object], device: str
) -> None:
    """Claims of the session may have the same names as the fields of the record that a rotation changes."""
    sid = new_session_id()
    store.sessions.create(plain_session(sid, claims=claims, device=device))

    state = read(store, sid, asking())

    assert state.rotated
    assert read(store, sid).session == decided(state)


def test_a_bound_session_is_left_whatever_its_claims_say(store: RedisStore) -> None:
    claims: dict[str, object] = {"cert": None, "jkt": None, "gen": {}, "encryption": "none"}
    store.sessions.create(plain_session(claims=claims, key_sha256=b"k" * 32))

    assert not read(store, rotation=asking()).rotated


def test_a_repetition_after_a_lost_answer_finds_the_successor(store: RedisStore) -> None:
    store.sessions.create(plain_session())
    read(store, rotation=asking())

    again = read(store, rotation=asking())

    assert not again.rotated
    assert (again.session.latest, again.session.parent) == (8, 7)
