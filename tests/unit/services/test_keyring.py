"""The key ring: the keys in memory, and when they are read again from the store."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from identity_service.domain.errors import NoSigningKeyError
from identity_service.domain.ids import PrincipalId, key_principal, new_epoch, new_link
from identity_service.domain.keys import KeyPolicy, KeyPurpose, StoredKey
from identity_service.domain.log import Generation, RecordChanged, RecordKind
from identity_service.domain.ports import SigningKey, VerifyingKey
from identity_service.domain.principals import Client
from identity_service.domain.revocations import Revocations
from identity_service.domain.secret import Secret
from identity_service.jose.sealing import Sealer
from identity_service.jose.vault import Vault
from identity_service.services.directory import Directory
from identity_service.services.keyring import KeyRing
from identity_service.storage.sqlite import SqliteStore
from tests.fakes.clocks import FakeClock
from tests.patience import PATIENCE

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def store(clock: FakeClock) -> Iterator[SqliteStore]:
    store = SqliteStore.open(":memory:", clock=clock)
    store.initialise(new_epoch())
    yield store
    store.close()


@pytest.fixture
def vault() -> Vault:
    return Vault(Sealer(Secret("a master key that is long enough for tests")))


def a_ring(
    store: SqliteStore, vault: Vault, clock: FakeClock, revocations: Revocations | None = None
) -> KeyRing:
    policy = KeyPolicy(
        rotate_every=timedelta(days=30),
        publish_before=timedelta(hours=1),
        lifetimes=dict.fromkeys(KeyPurpose, timedelta(days=1)),
    )
    return KeyRing(store.records, vault, clock, revocations or Revocations(), policy)


def test_without_keys_nothing_is_signed(store: SqliteStore, vault: Vault, clock: FakeClock) -> None:
    ring = a_ring(store, vault, clock)

    for ask in (ring.load, ring.signing, ring.current_refresh_key, ring.refresh_keys):
        with pytest.raises(NoSigningKeyError, match="identity init"):
            ask()
    assert "k" not in ring.verifying


def test_the_schedule_is_asked_on_every_use(store: SqliteStore, vault: Vault, clock: FakeClock) -> None:
    old = vault.make(KeyPurpose.SIGN, "ES256", NOW)
    new = replace(vault.make(KeyPurpose.SIGN, "EdDSA", NOW), activate_time=NOW + timedelta(hours=1))
    for key in (old, new, vault.make(KeyPurpose.REFRESH, "HS256", NOW)):
        store.records.create(key)
    ring = a_ring(store, vault, clock)
    ring.load()

    assert ring.signing().key_id == old.key_id
    assert {old.key_id, new.key_id} == {k for k in (old.key_id, new.key_id) if k in ring.verifying}
    clock.step(timedelta(hours=1))
    assert ring.signing().key_id == new.key_id
    assert len(ring.refresh_key(ring.current_refresh_key()) or b"") == 32


def test_the_refresh_keys_are_all_but_the_retired_ones_and_the_one_in_use_is_the_first(
    store: SqliteStore, vault: Vault, clock: FakeClock
) -> None:
    store.records.create(vault.make(KeyPurpose.SIGN, "ES256", NOW))
    made = [
        replace(vault.make(KeyPurpose.REFRESH, "HS256", NOW), activate_time=NOW + timedelta(hours=hours))
        for hours in (-1, 0, 1)
    ]
    for key in made:
        store.records.create(key)
    revocations = Revocations()
    ring = a_ring(store, vault, clock, revocations)
    ring.load()
    past, current, waiting = (ring.refresh_key(key.key_id) for key in made)

    assert ring.refresh_keys()[0] == current
    assert set(ring.refresh_keys()) == {past, current, waiting}
    revocations.raise_to(key_principal(made[0].key_id), Generation(number=1, link=new_link()))
    assert ring.refresh_keys() == [current, waiting]


def test_a_key_that_is_retired_signs_nothing_from_then_on(
    store: SqliteStore, vault: Vault, clock: FakeClock
) -> None:
    old = vault.make(KeyPurpose.SIGN, "ES256", NOW)
    new = replace(vault.make(KeyPurpose.SIGN, "ES256", NOW), activate_time=NOW + timedelta(hours=1))
    store.records.create(old)
    store.records.create(new)
    revocations = Revocations()
    ring = a_ring(store, vault, clock, revocations)
    ring.load()
    assert ring.signing().key_id == old.key_id

    revocations.raise_to(key_principal(old.key_id), Generation(number=1, link=new_link()))

    assert ring.signing().key_id == new.key_id


def test_a_clock_that_is_set_back_has_the_key_of_then(
    store: SqliteStore, vault: Vault, clock: FakeClock
) -> None:
    old = vault.make(KeyPurpose.SIGN, "ES256", NOW)
    new = replace(vault.make(KeyPurpose.SIGN, "ES256", NOW), activate_time=NOW + timedelta(hours=1))
    store.records.create(old)
    store.records.create(new)
    ring = a_ring(store, vault, clock)
    ring.load()
    clock.step(timedelta(hours=2))
    assert ring.signing().key_id == new.key_id

    clock.step(-timedelta(hours=2))

    assert ring.signing().key_id == old.key_id


def test_keys_are_read_again_when_one_changed_and_only_then(
    store: SqliteStore, vault: Vault, clock: FakeClock
) -> None:
    ring = a_ring(store, vault, clock)
    key = vault.make(KeyPurpose.SIGN, "ES256", NOW)
    store.records.create(key)
    store.records.create(vault.make(KeyPurpose.SIGN, "EdDSA", NOW))

    ring.on_records_changed([RecordChanged(kind=RecordKind.CLIENT, id="c")])
    assert key.key_id not in ring.verifying
    ring.on_records_changed([RecordChanged(kind=RecordKind.KEY, id=key.key_id)])
    known = ring.verifying[key.key_id]
    assert known is not None
    ring.on_records_changed(None)
    assert ring.verifying[key.key_id] is known  # opened once
    store.records.delete(RecordKind.KEY, key.key_id)
    ring.on_records_changed(None)
    assert key.key_id not in ring.verifying
    assert store.records.get(StoredKey, key.key_id) is None


def test_the_keys_that_are_held_stay_when_the_store_has_lost_all(
    store: SqliteStore, vault: Vault, clock: FakeClock
) -> None:
    """The process then neither signs nor verifies, but can still publish the keys."""
    ring = a_ring(store, vault, clock)
    key = vault.make(KeyPurpose.SIGN, "ES256", NOW)
    store.records.create(key)
    ring.load()
    store.records.delete(RecordKind.KEY, key.key_id)

    with pytest.raises(NoSigningKeyError):
        ring.on_records_changed(None)
    assert key.key_id in ring.verifying


def test_a_thread_that_read_the_keys_first_and_is_held_up_does_not_restore_older_keys(
    store: SqliteStore, vault: Vault, clock: FakeClock
) -> None:
    """Each of two threads reads the keys after a change; the result of the later read must stay."""
    first, second = (vault.make(KeyPurpose.SIGN, "ES256", NOW) for _ in range(2))
    store.records.create(first)
    has_read, may_go_on = threading.Event(), threading.Event()

    class HeldUp(Vault):
        def __init__(self) -> None: ...

        def open_signing(self, key: StoredKey) -> SigningKey:
            if not has_read.is_set():
                has_read.set()
                assert may_go_on.wait(PATIENCE)
            return vault.open_signing(key)

        def open_verifying(self, key: StoredKey) -> VerifyingKey:
            return vault.open_verifying(key)

    ring = a_ring(store, HeldUp(), clock)
    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(ring.load)
        assert has_read.wait(PATIENCE)
        store.records.create(second)
        quick = threads.submit(ring.load)
        with suppress(TimeoutError):  # it waits for the other one
            quick.result(0.2)
        may_go_on.set()
        slow.result(PATIENCE)
        quick.result(PATIENCE)

    assert second.key_id in ring.verifying


class CountingStore:
    """A store whose reads a test can interrupt, with a count of the reads."""

    def __init__(self, *clients: Client) -> None:
        self.clients = {client.client_id: client for client in clients}
        self.asked = 0
        self.meanwhile: Callable[[], None] = lambda: None

    def get(self, kind: type[Client], id_: PrincipalId) -> Any:
        self.asked += 1
        found = self.clients.get(id_)
        self.meanwhile()
        return None if found is None else type("Found", (), {"record": found})


def client(name: str) -> Client:
    return Client(client_id=PrincipalId(name))


def directory(store: CountingStore, **options: int) -> Directory:
    return Directory(store, **options)  # type: ignore[arg-type]


def test_a_client_is_asked_for_once_found_or_not() -> None:
    store = CountingStore(client("c"))
    known = directory(store)

    for _ in range(3):
        assert known.client(PrincipalId("c")) == client("c")
        assert known.client(PrincipalId("nobody")) is None
    assert store.asked == 2


def test_a_client_that_changed_is_asked_for_again() -> None:
    store = CountingStore(client("c"), client("d"))
    known = directory(store)
    for name in ("c", "d"):
        known.client(PrincipalId(name))

    known.on_records_changed([RecordChanged(kind=RecordKind.USER, id="c")])
    known.client(PrincipalId("c"))
    assert store.asked == 2
    known.on_records_changed([RecordChanged(kind=RecordKind.CLIENT, id="c")])
    for name in ("c", "d"):
        known.client(PrincipalId(name))
    assert store.asked == 3
    known.on_records_changed(None)
    known.client(PrincipalId("d"))
    assert store.asked == 4


def test_an_answer_that_was_overtaken_by_a_change_is_not_remembered() -> None:
    store = CountingStore(client("c"))
    known = directory(store)
    store.meanwhile = lambda: known.on_records_changed([RecordChanged(kind=RecordKind.CLIENT, id="c")])

    known.client(PrincipalId("c"))
    known.client(PrincipalId("c"))

    assert store.asked == 2


def test_the_directory_is_bounded() -> None:
    store = CountingStore()
    known = directory(store, limit=2)
    for name in ("a", "b", "a", "c", "a"):
        known.client(PrincipalId(name))
    assert store.asked == 3
    known.client(PrincipalId("b"))
    assert store.asked == 4
