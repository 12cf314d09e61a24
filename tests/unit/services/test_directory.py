"""Clients in memory: which are kept, when they are read again, and which client has a certificate."""

from collections.abc import Iterator
from typing import Any

import pytest

from identity_service.adapters.clock import SystemClock
from identity_service.domain.ids import PrincipalId, new_epoch
from identity_service.domain.log import RecordChanged, RecordKind
from identity_service.domain.origin import PeerCertificate
from identity_service.domain.principals import Grant, first_party_client
from identity_service.services.directory import Directory
from identity_service.services.verify import StoreReadRequiredError
from identity_service.storage.sqlite import SqliteStore
from tests.unit.domain.samples import a_client

ONE, TWO = "dns:one.example", "dns:two.example"


@pytest.fixture
def store() -> Iterator[SqliteStore]:
    store = SqliteStore.open(":memory:", clock=SystemClock())
    store.initialise(new_epoch())
    yield store
    store.close()


@pytest.fixture
def directory(store: SqliteStore) -> Directory:
    return Directory(store.records, limit=2)


def create(store: SqliteStore, name: str, *certificates: str) -> PrincipalId:
    client = a_client(client_id=PrincipalId(name), certificates=frozenset(certificates))
    store.records.create(client)
    return client.client_id


def delete(store: SqliteStore, client_id: PrincipalId) -> None:
    """Delete a client in the store without notifying the directory."""
    store.records.delete(RecordKind.CLIENT, client_id)


def a_certificate(*names: str, number: int = 1) -> PeerCertificate:
    return PeerCertificate(sha256=bytes([number]) * 32, names=frozenset(names))


def is_kept(directory: Directory, client_id: PrincipalId) -> bool:
    """Return whether the directory still has a client that was deleted in the store."""
    return directory.client(client_id) is not None


def test_a_client_is_read_once_and_again_after_a_change(store: SqliteStore, directory: Directory) -> None:
    one, two = create(store, "one"), create(store, "two")
    for client_id in (one, two):
        assert directory.client(client_id) is not None
        delete(store, client_id)

    directory.on_records_changed([RecordChanged(kind=RecordKind.CLIENT, id=two)])

    assert (is_kept(directory, one), is_kept(directory, two)) == (True, False)


def test_a_change_of_another_kind_of_record_drops_no_client(store: SqliteStore, directory: Directory) -> None:
    one = create(store, "one")
    directory.client(one)
    delete(store, one)

    directory.on_records_changed([RecordChanged(kind=RecordKind.USER, id=one)])

    assert is_kept(directory, one)


def test_every_client_is_read_again_if_it_is_unknown_what_has_changed(
    store: SqliteStore, directory: Directory
) -> None:
    one = create(store, "one", ONE)
    directory.client_of(a_certificate(ONE))
    delete(store, one)

    directory.on_records_changed(None)

    assert not is_kept(directory, one)


def test_a_client_that_does_not_exist_is_remembered_too(store: SqliteStore, directory: Directory) -> None:
    assert directory.client(PrincipalId("one")) is None

    create(store, "one")

    assert directory.client(PrincipalId("one")) is None


def test_the_client_that_was_not_asked_for_longest_is_dropped_first(
    store: SqliteStore, directory: Directory
) -> None:
    one, two, three = (create(store, name) for name in ("one", "two", "three"))
    for client_id in (one, two, one, three):
        directory.client(client_id)
    for client_id in (one, two, three):
        delete(store, client_id)

    assert (is_kept(directory, one), is_kept(directory, three)) == (True, True)
    assert not is_kept(directory, two)


def test_a_certificate_is_that_of_the_client_that_has_registered_a_name_of_it(
    store: SqliteStore, directory: Directory
) -> None:
    one = create(store, "one", ONE)

    for _ in range(2):
        found = directory.client_of(a_certificate(ONE, "sha256:x"))
        assert found is not None
        assert found.client_id == one


def test_a_caller_that_may_not_wait_finds_only_what_needs_no_read(
    store: SqliteStore, directory: Directory
) -> None:
    """If an event loop waited for the store, all its calls would wait, for seconds if the store hangs."""
    one, certificate = create(store, "one", ONE), a_certificate(ONE)
    for changes in (None, [RecordChanged(kind=RecordKind.CLIENT, id=one)]):
        directory.on_records_changed(changes)
        with pytest.raises(StoreReadRequiredError):
            directory.client(one, may_wait=False)
        with pytest.raises(StoreReadRequiredError):
            directory.client_of(certificate, may_wait=False)

        found = directory.client_of(certificate)

        assert found is not None
        assert directory.client(one, may_wait=False) is found
        assert directory.client_of(certificate, may_wait=False) is found


def test_a_certificate_of_no_client_or_of_two_proves_none(store: SqliteStore, directory: Directory) -> None:
    create(store, "one", ONE)
    create(store, "two", TWO)

    assert directory.client_of(a_certificate("dns:other.example")) is None
    assert directory.client_of(a_certificate(ONE, TWO, number=2)) is None


def test_a_certificate_proves_nothing_any_more_once_its_client_has_lost_its_names(
    store: SqliteStore, directory: Directory
) -> None:
    create(store, "one", ONE)
    certificate = a_certificate(ONE)
    assert directory.client_of(certificate) is not None

    assert directory.client_of(PeerCertificate(sha256=certificate.sha256, names=frozenset({TWO}))) is None


def test_the_certificate_that_was_seen_first_is_dropped_first(
    store: SqliteStore, directory: Directory
) -> None:
    for number in (1, 2, 3):
        assert directory.client_of(a_certificate(ONE, number=number)) is None
    create(store, "one", ONE)

    # Those that are still in memory are known to be of no client.
    assert [directory.client_of(a_certificate(ONE, number=number)) is None for number in (3, 2, 1)] == [
        True,
        True,
        False,
    ]


# Whether a client only names itself


class CountingRecords:
    """Records that count their reads; implements what the directory needs of the port RecordStore."""

    def __init__(self, store: SqliteStore) -> None:
        self._records = store.records
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        self.reads += 1
        return getattr(self._records, name)


def changed(name: str) -> RecordChanged:
    return RecordChanged(kind=RecordKind.CLIENT, id=name)


def create_public(store: SqliteStore, name: str, **changes: Any) -> None:
    grants = frozenset({Grant.PASSWORD})
    store.records.create(a_client(**({"client_id": PrincipalId(name), "grants": grants} | changes)))


def test_a_public_client_that_signs_users_in_is_found_and_missed_again(
    store: SqliteStore, directory: Directory
) -> None:
    create(store, "a workload")
    create_public(store, "b", disabled=True)
    assert not directory.has_public_client()

    create_public(store, "c")
    assert not directory.has_public_client(), (
        "the answer is kept until the log says that a client has changed"
    )
    directory.on_records_changed([changed("c")])
    assert directory.has_public_client()

    delete(store, PrincipalId("c"))
    directory.on_records_changed(None)
    assert not directory.has_public_client()


def test_records_are_read_only_after_a_client_has_changed(store: SqliteStore) -> None:
    records: Any = CountingRecords(store)
    directory = Directory(records)
    create_public(store, "a")
    assert directory.has_public_client()
    before = records.reads

    directory.on_records_changed([RecordChanged(kind=RecordKind.USER, id="a")])
    assert directory.has_public_client()
    assert records.reads == before

    directory.on_records_changed([changed("a")])
    assert directory.has_public_client()
    assert records.reads > before


def test_one_read_suffices_while_the_built_in_client_is_enabled(store: SqliteStore) -> None:
    for number in range(5):
        create(store, f"a{number}")
    store.records.create(first_party_client())
    records: Any = CountingRecords(store)

    assert Directory(records).has_public_client()
    assert records.reads == 1


def test_a_change_during_the_search_is_not_missed(store: SqliteStore) -> None:
    create_public(store, "a")

    class Racing(CountingRecords):
        """Records that delete the client while it is read."""

        def list_of(self, *args: Any, **named: Any) -> Any:
            found = store.records.list_of(*args, **named)
            if found:
                delete(store, PrincipalId("a"))
                searching.on_records_changed([changed("a")])
            return found

    records: Any = Racing(store)
    searching = Directory(records)
    searching.has_public_client()

    assert not searching.has_public_client()
