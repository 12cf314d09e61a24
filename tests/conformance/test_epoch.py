"""The epoch: a store has one from `initialise` on, and a process writes only under the one it follows."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest

from identity_service.domain.errors import (
    AlreadyExistsError,
    StoreReplacedError,
    StoreUninitializedError,
)
from identity_service.domain.ids import PrincipalId, TokenId, new_epoch, new_token_id
from identity_service.domain.log import Marks, RecordKind
from identity_service.domain.principals import Client
from identity_service.domain.store import Store
from tests.conformance.backends import Backend
from tests.conformance.samples import LATER, MUTATIONS, a_client, a_session, deny, entries_of

Call = Callable[[Store], object]
each_mutation = pytest.mark.parametrize("mutate", MUTATIONS.values(), ids=MUTATIONS.keys())


def replace_log(backend: Backend) -> Store:
    """Wipe the data and set a new epoch, as an operator does who initialises an empty store again."""
    backend.wipe()
    second = backend.open()
    second.initialise(new_epoch())
    return second


def test_initialising_gives_the_store_its_epoch(backend: Backend) -> None:
    epoch = new_epoch()
    store = backend.open()
    store.initialise(epoch)
    assert store.log.head().epoch == epoch
    assert store.facts.deny_token(*_denial()).revision.epoch == epoch


def test_a_second_initialisation_is_refused_and_changes_nothing(store: Store, backend: Backend) -> None:
    deny(store)
    before = store.log.head()
    for again in (store, backend.open()):
        with pytest.raises(AlreadyExistsError):
            again.initialise(new_epoch())
    assert store.log.head() == before
    deny(store)


def test_a_store_that_is_opened_later_follows_the_epoch_it_finds(store: Store, backend: Backend) -> None:
    other = backend.open()
    deny(other)
    assert other.log.head().epoch == store.log.head().epoch
    assert len(entries_of(store)) == 1


def test_an_uninitialised_store_has_no_head(backend: Backend) -> None:
    store = backend.open()
    with pytest.raises(StoreUninitializedError):
        store.log.head()
    with pytest.raises(StoreUninitializedError):
        store.log.read(0, 10)
    with pytest.raises(StoreUninitializedError):
        store.log.heartbeat("process-1")


@each_mutation
def test_an_uninitialised_store_refuses_to_change(backend: Backend, mutate: Call) -> None:
    store = backend.open()
    with pytest.raises(StoreUninitializedError):
        mutate(store)
    store.initialise(new_epoch())
    assert store.log.head().position == 0
    assert not store.records.list_of(Client)


@each_mutation
def test_an_emptied_store_refuses_to_change(store: Store, backend: Backend, mutate: Call) -> None:
    deny(store)
    backend.wipe()
    with pytest.raises(StoreUninitializedError):
        mutate(store)
    with pytest.raises(StoreUninitializedError):
        store.log.heartbeat("process-1")


@each_mutation
def test_a_replaced_store_refuses_the_writes_of_processes_of_the_old_log(
    store: Store, backend: Backend, mutate: Call
) -> None:
    deny(store)
    second = replace_log(backend)
    second.records.create(a_client("billing"))
    second.sessions.create(a_session("sid-1"))
    kept, session = second.records.get(Client, "billing"), second.sessions.read(a_session("sid-1").session_id)
    before = second.log.head()
    with pytest.raises(StoreReplacedError):
        mutate(store)
    assert second.log.head() == before
    assert second.log.generations() == {}
    assert list(second.records.list_of(Client)) == [kept]
    assert second.sessions.read(a_session("sid-1").session_id) == session


def test_a_reader_sees_by_the_head_that_the_log_was_replaced(store: Store, backend: Backend) -> None:
    """Reads and heartbeats still succeed, so that a follower finds the new epoch in the head."""
    deny(store, 3)
    old = store.log.head()
    second = replace_log(backend)
    deny(second, 5)
    new = second.log.head()
    assert new.epoch != old.epoch
    assert store.log.head() == new
    new = replace(new, marks=Marks(latest=new.time))
    assert store.log.heartbeat("process-1") == new
    page = store.log.read(old.position, 10)
    assert page.head == new
    assert page.entries[0].previous_link != old.link


def test_a_process_that_adopts_the_new_epoch_writes_again(store: Store, backend: Backend) -> None:
    deny(store)
    replace_log(backend)
    store.log.adopt(store.log.head().epoch)
    deny(store)
    assert store.log.head().position == 1


def test_adopting_another_epoch_than_the_stores_changes_nothing(store: Store) -> None:
    created = store.records.create(a_client())
    epoch = store.log.head().epoch
    store.log.adopt(new_epoch())
    with pytest.raises(StoreReplacedError):
        store.records.update(a_client(), expected=created.revision)
    with pytest.raises(StoreReplacedError):
        store.records.delete(RecordKind.CLIENT, "billing")
    with pytest.raises(StoreReplacedError):
        store.facts.raise_generation(PrincipalId("billing"), above=0, request_id="request-1")
    store.log.adopt(epoch)
    assert store.log.head().position == 1
    store.facts.raise_generation(PrincipalId("billing"), above=0, request_id="request-1")
    assert store.log.generations()[PrincipalId("billing")].number == 1


def _denial() -> tuple[TokenId, datetime]:
    return new_token_id(), LATER
