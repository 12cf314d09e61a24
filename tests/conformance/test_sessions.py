"""Sessions and sign-ins: stored whole, replaced by compare-and-set, read with all their revocations."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier

import pytest

from identity_service.domain.errors import AlreadyExistsError
from identity_service.domain.ids import EVERYONE, KeyId, PrincipalId, SessionId
from identity_service.domain.log import RecordKind, SessionEnded
from identity_service.domain.principals import first_party_client
from identity_service.domain.sessions import (
    NO_PARENT,
    PlainRotation,
    Replayed,
    Rotated,
    Session,
    SessionState,
    decide_refresh,
)
from identity_service.domain.store import Store
from tests.conformance.backends import Backend
from tests.conformance.samples import LATER, a_client, a_session, a_user
from tests.fakes.clocks import FakeClock

SID, OTHER = SessionId("session-1"), SessionId("session-2")
GRACE = timedelta(seconds=60)


def read(store: Store, session_id: SessionId = SID) -> SessionState:
    state = store.sessions.read(session_id)
    assert state is not None
    return state


def refresh(store: Store, shown: int, rotation: PlainRotation | None = None) -> int:
    """Refresh as the use case does: decide, replace, and repeat if another caller was faster.

    Returns the new number.
    """
    while True:
        state = store.sessions.read(SID, rotation=rotation)
        assert state is not None
        decision = decide_refresh(
            state.session, shown, now=state.time, grace=GRACE, key_id=KeyId("refresh-1")
        )
        match decision:
            case Replayed(session=session):
                return session.latest
            case Rotated(session=session):
                if state.rotated or store.sessions.replace(session, expected_version=state.version):
                    return session.latest
            case refused:
                raise AssertionError(refused)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"generations": {}, "claims": {}, "rotate_times": {}, "latest": 0, "parent": NO_PARENT, "device": ""},
    ],
    ids=["every member", "as at sign-in"],
)
def test_a_session_comes_back_as_it_was_created(store: Store, changes: dict[str, object]) -> None:
    session = a_session(SID, **changes)
    store.sessions.create(session)
    assert read(store).session == session


def test_an_unknown_session_is_none(store: Store) -> None:
    assert store.sessions.read(SID) is None


def test_a_session_id_is_taken_once(store: Store) -> None:
    store.sessions.create(a_session(SID, device="first"))
    with pytest.raises(AlreadyExistsError):
        store.sessions.create(a_session(SID, device="second"))
    assert read(store).session.device == "first"


def test_replacing_a_session_changes_record_and_version(store: Store) -> None:
    session = a_session(SID)
    store.sessions.create(session)
    first = read(store)
    changed = replace(session, latest=8, parent=7)
    assert store.sessions.replace(changed, expected_version=first.version)
    second = read(store)
    assert second.session == changed
    assert second.version > first.version


def test_replacing_an_older_version_is_refused_and_changes_nothing(store: Store) -> None:
    session = a_session(SID)
    store.sessions.create(session)
    first = read(store)
    winner = replace(session, latest=8)
    assert store.sessions.replace(winner, expected_version=first.version)
    after = read(store)
    assert not store.sessions.replace(replace(session, latest=9), expected_version=first.version)
    assert read(store) == after


def test_replacing_an_unknown_session_creates_nothing(store: Store) -> None:
    assert not store.sessions.replace(a_session(SID), expected_version=1)
    assert not store.sessions.replace(a_session(SID), expected_version=0)
    assert store.sessions.read(SID) is None


def test_sessions_are_independent(store: Store) -> None:
    one, two = a_session("one"), a_session("two")
    store.sessions.create(one)
    store.sessions.create(two)
    store.sessions.replace(replace(one, latest=99), expected_version=read(store, one.session_id).version)
    assert read(store, two.session_id).session == two


def test_a_session_is_gone_at_its_expire_time(store: Store, clock: FakeClock) -> None:
    session = a_session(SID, expire_time=clock.now() + timedelta(minutes=10))
    store.sessions.create(session)
    version = read(store).version
    clock.advance(timedelta(minutes=9, seconds=59))
    assert read(store).session == session
    clock.advance(timedelta(seconds=2))
    assert store.sessions.read(SID) is None
    assert not store.sessions.replace(session, expected_version=version)
    for _ in range(3):
        store.log.heartbeat("process-1")
    assert store.sessions.read(SID) is None


def test_the_state_names_the_stores_time(store: Store, clock: FakeClock) -> None:
    store.sessions.create(a_session(SID))
    clock.advance(timedelta(seconds=7.25))
    assert read(store).time == clock.now()
    assert store.sessions.read_sign_in("alice", PrincipalId("billing")).time == clock.now()


def test_a_session_has_not_ended_until_it_is_ended(store: Store, clock: FakeClock) -> None:
    session = a_session(SID)
    store.sessions.create(session)
    store.sessions.create(a_session("other"))
    assert not read(store).ended
    store.facts.end_session(SID, deny_until=clock.now() + timedelta(hours=1), end_until=session.expire_time)
    assert read(store).ended
    assert not read(store, SessionId("other")).ended


def test_an_ended_session_is_remembered_until_its_last_day(store: Store, clock: FakeClock) -> None:
    """The denial of the session leaves the log much earlier, but Refresh must still be refused."""
    session = a_session(SID, expire_time=clock.now() + timedelta(days=30))
    store.sessions.create(session)
    store.facts.end_session(
        SID, deny_until=clock.now() + timedelta(minutes=15), end_until=session.expire_time
    )
    clock.advance(timedelta(days=29, hours=23))
    store.log.heartbeat("process-1")
    assert read(store).ended


def test_a_session_may_be_ended_before_it_is_created(store: Store, clock: FakeClock) -> None:
    """A failover may lose the session; then a process may repair its end before the session is stored."""
    until = clock.now() + timedelta(days=30)
    store.facts.end_session(SID, deny_until=until, end_until=until)
    store.sessions.create(a_session(SID))
    assert read(store).ended


def test_the_state_holds_the_generations_of_its_principals_only(store: Store) -> None:
    store.sessions.create(a_session(SID, subject=PrincipalId("u_1"), client_id=PrincipalId("billing")))
    assert read(store).generations == {}
    for principal in ("u_1", "billing", "*", "stranger"):
        store.facts.raise_generation(PrincipalId(principal), above=0, request_id=None)
    raised = store.log.generations()
    assert read(store).generations == {p: raised[p] for p in raised if p != "stranger"}
    assert set(read(store).generations) == {"u_1", "billing", EVERYONE}


def test_the_state_holds_user_and_client_as_they_are_now(store: Store) -> None:
    store.sessions.create(a_session(SID))
    assert (read(store).user, read(store).client) == (None, None)
    user, client = a_user("u_1", disabled=False), a_client("billing")
    store.records.create(user)
    created = store.records.create(client)
    assert (read(store).user, read(store).client) == (user, client)
    changed = a_client("billing", disabled=False, display_name="new")
    store.records.update(changed, expected=created.revision)
    store.records.delete(RecordKind.USER, "u_1")
    assert (read(store).user, read(store).client) == (None, changed)


def test_a_sign_in_finds_user_client_and_their_generations(store: Store) -> None:
    user, client = a_user("u_1", "Alice"), first_party_client()
    store.records.create(user)
    store.records.create(client)
    for principal in ("u_1", client.client_id, EVERYONE, "billing", "alice"):
        store.facts.raise_generation(PrincipalId(principal), above=0, request_id=None)
    found = store.sessions.read_sign_in(" ALICE ", client.client_id)
    assert (found.user, found.client) == (user, client)
    assert set(found.generations) == {"u_1", client.client_id, EVERYONE}
    raised = store.log.generations()
    assert all(found.generations[p] == raised[p] for p in found.generations)


def test_a_sign_in_of_an_unknown_user_still_returns_the_other_generations(store: Store) -> None:
    store.facts.raise_generation(EVERYONE, above=0, request_id=None)
    found = store.sessions.read_sign_in("nobody", PrincipalId("nowhere"))
    assert (found.user, found.client) == (None, None)
    assert set(found.generations) == {EVERYONE}


def test_a_session_is_shared_between_instances(store: Store, backend: Backend) -> None:
    other = backend.open()
    session = a_session(SID)
    store.sessions.create(session)
    assert other.sessions.replace(replace(session, latest=8), expected_version=read(other).version)
    assert read(store).session.latest == 8


def fresh_session() -> Session:
    return a_session(SID, latest=0, parent=NO_PARENT, rotate_times={})


ROTATION = PlainRotation(shown=0, client_id=PrincipalId("billing"), key_id=KeyId("refresh-1"), grace=GRACE)


@pytest.mark.parametrize("rotation", [None, ROTATION], ids=["", "as it reads"])
@pytest.mark.parametrize("instances", [1, 2])
def test_sixty_four_concurrent_refreshes_of_one_token_have_one_successor(
    store: Store, backend: Backend, instances: int, rotation: PlainRotation | None
) -> None:
    stores = [store, *(backend.open() for _ in range(instances - 1))]
    store.sessions.create(replace(fresh_session(), generations={}, certificate_sha256=None, key_sha256=None))
    version = read(store).version
    together = Barrier(64)

    def one(number: int) -> int:
        together.wait()
        return refresh(stores[number % instances], shown=0, rotation=rotation)

    with ThreadPoolExecutor(64) as pool:
        latest = list(pool.map(one, range(64)))
    assert latest == [1] * 64
    state = read(store)
    assert (state.session.latest, state.session.parent) == (1, 0)
    assert state.version == version + 1


def test_concurrent_replacements_of_one_version_have_one_winner(store: Store) -> None:
    session = fresh_session()
    store.sessions.create(session)
    version = read(store).version
    together = Barrier(16)

    def one(number: int) -> bool:
        together.wait()
        return store.sessions.replace(replace(session, latest=number), expected_version=version)

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(one, range(16)))
    assert won.count(True) == 1
    assert read(store).session.latest == won.index(True)


def test_a_chain_of_refreshes_goes_on_while_others_repeat_old_tokens(store: Store) -> None:
    """In each of ten rounds, four threads show the same token, and all must get the same successor."""
    store.sessions.create(fresh_session())
    with ThreadPoolExecutor(4) as pool:
        for shown in range(10):
            assert set(pool.map(lambda _, n=shown: refresh(store, n), range(4))) == {shown + 1}
    assert read(store).session.latest == 10


def test_a_session_stays_ended_if_the_fact_is_deleted(store: Store, backend: Backend) -> None:
    """The record of the session has a mark as well, so that losing one key does not revive it."""
    for session_id in (SID, OTHER):
        store.sessions.create(a_session(session_id))
    store.facts.end_session(SID, deny_until=LATER, end_until=LATER)
    backend.forget_end(SID)
    backend.forget_end(OTHER)

    assert read(store).ended
    assert not store.sessions.replace(a_session(SID), expected_version=read(store).version)
    assert not read(store, OTHER).ended, "the same without the revocation"
    assert store.sessions.replace(a_session(OTHER), expected_version=read(store, OTHER).version)
    assert [s.session_id for s in store.sessions.list_of(a_session(SID).subject)] == [OTHER]


def test_a_session_is_ended_at_least_until_its_own_end(store: Store, clock: FakeClock) -> None:
    """The process that ends a session may be configured with shorter sessions than the one that made it."""
    end = clock.now() + timedelta(days=30)
    store.sessions.create(a_session(SID, expire_time=end))
    appended = store.facts.end_session(SID, deny_until=LATER, end_until=clock.now() + timedelta(days=1))
    fact = appended.changes[0][0]
    assert isinstance(fact, SessionEnded)
    assert fact.end_until == end
    clock.advance(timedelta(days=29))
    assert read(store).ended


def test_ending_a_session_that_is_not_there_leaves_no_record_behind(store: Store) -> None:
    store.facts.end_session(SID, deny_until=LATER, end_until=LATER)
    assert store.sessions.read(SID) is None
    store.sessions.create(a_session(SID))
