"""The revision that a write returns names a place in one history, by the link of the entry there."""

from collections.abc import Callable

import pytest

from identity_service.domain.errors import StaleEtagError
from identity_service.domain.ids import EVERYONE, Link, PrincipalId, SessionId, TokenId, new_epoch
from identity_service.domain.log import Appended, RecordKind, Revision
from identity_service.domain.principals import Client
from identity_service.domain.store import Store
from tests.conformance.backends import Backend
from tests.conformance.samples import LATER, MUCH_LATER, SOON, a_client, deny, entries_of

BILLING = PrincipalId("billing")

WRITES: dict[str, Callable[[Store], Appended]] = {
    "a denial": lambda s: s.facts.deny_token(TokenId("t1"), LATER),
    "the end of a session": lambda s: s.facts.end_session(
        SessionId("s1"), deny_until=LATER, end_until=MUCH_LATER
    ),
    "a raise": lambda s: s.facts.raise_generation(EVERYONE, above=0, request_id=None),
    "a raise of a request": lambda s: s.facts.raise_generation(EVERYONE, above=0, request_id="r1"),
    "a new record": lambda s: s.records.create(a_client("new")),
    "a changed record": lambda s: s.records.update(a_client(disabled=True), expected=etag(s)),
    "a changed record that revokes": lambda s: s.records.update(a_client(), expected=etag(s), revoke=True),
    "a deleted record": lambda s: s.records.delete(RecordKind.CLIENT, BILLING),
}

REPEATED: dict[str, Callable[[Store], Appended]] = {
    "a denial": lambda s: s.facts.deny_token(TokenId("t1"), SOON),
    "the end of a session": WRITES["the end of a session"],
    "a raise of a request": WRITES["a raise of a request"],
}


def etag(store: Store) -> Revision:
    found = store.records.get(Client, BILLING)
    assert found is not None
    return found.revision


def place(store: Store, position: int) -> Revision:
    """Return the revision of the entry that the log has at a position."""
    (link,) = (entry.link for entry in entries_of(store) if entry.position == position)
    return Revision(epoch=store.log.head().epoch, position=position, link=link)


@pytest.mark.parametrize("name", WRITES)
def test_a_write_returns_the_place_of_its_last_entry_with_its_link(store: Store, name: str) -> None:
    store.records.create(a_client())
    appended = WRITES[name](store)

    assert appended.revision == place(store, store.log.head().position)
    assert appended.revision == store.log.head().revision
    assert appended.revision.link == appended.changes[-1][1]


@pytest.mark.parametrize("name", REPEATED)
def test_a_repetition_returns_the_place_that_holds_the_fact_with_its_link(store: Store, name: str) -> None:
    first = WRITES[name](store)
    deny(store, 2)

    assert REPEATED[name](store).revision == first.revision == place(store, 1)


@pytest.mark.parametrize("name", REPEATED)
def test_a_repetition_under_a_new_epoch_returns_a_place_that_the_log_has(store: Store, name: str) -> None:
    """A follower compares the link of the revision with the link of the entry at the same position."""
    first = WRITES[name](store)
    deny(store, 2)
    epoch = new_epoch()
    store.log.adopt(store.log.renew(store.log.head().epoch, epoch))

    repeated = REPEATED[name](store)

    assert repeated.revision.epoch == epoch != first.revision.epoch
    assert repeated.revision == place(store, repeated.revision.position)
    assert store.log.head().position == 3, "nothing was appended"


def test_the_start_of_a_log_has_no_link_to_name(store: Store) -> None:
    head = store.log.head()
    assert str(head.revision) == f"{head.epoch}.0.-"


@pytest.mark.parametrize("revoke", [False, True], ids=["plain", "revoking"])
def test_a_write_returns_the_etag_of_its_record(store: Store, revoke: bool) -> None:
    created = store.records.create(a_client())
    assert etag(store) == created.revision
    updated = store.records.update(a_client(disabled=True), expected=created.revision, revoke=revoke)
    assert etag(store) == updated.revision
    assert [found.revision for found in store.records.list_of(Client)] == [updated.revision]


def test_an_etag_of_another_history_is_stale(store: Store) -> None:
    """A log restored by hand gives the same positions to other entries, so links are compared too."""
    created = store.records.create(a_client()).revision
    lost = Revision(epoch=created.epoch, position=created.position, link=deny_link(store))

    with pytest.raises(StaleEtagError):
        store.records.update(a_client(disabled=True), expected=lost)
    with pytest.raises(StaleEtagError):
        store.records.delete(RecordKind.CLIENT, BILLING, expected=lost)
    store.records.update(a_client(disabled=True), expected=created)  # a control


def deny_link(store: Store) -> Link:
    return store.facts.deny_token(TokenId("other"), LATER).changes[0][1]


def test_a_record_of_the_first_release_keeps_the_etag_that_clients_hold(
    store: Store, backend: Backend
) -> None:
    """The first release wrote etags without a link.

    Such an etag is compared as it is until the record is written again.
    """
    created = store.records.create(a_client()).revision
    backend.forget_links_of_etags()
    held = Revision.parse(f"{created.epoch}.{created.position}")

    assert etag(store) == held
    assert [found.revision for found in store.records.list_of(Client)] == [held]
    with pytest.raises(StaleEtagError):
        store.records.update(a_client(disabled=True), expected=Revision.parse(f"{created.epoch}.99"))
    updated = store.records.update(a_client(disabled=True), expected=held).revision
    assert etag(store) == updated
    assert updated.link is not None
    for stale in (held, Revision.parse(f"{updated.epoch}.{updated.position}")):
        with pytest.raises(StaleEtagError):
            store.records.update(a_client(), expected=stale)


def test_a_record_of_the_first_release_is_deleted_by_the_etag_that_clients_hold(
    store: Store, backend: Backend
) -> None:
    created = store.records.create(a_client()).revision
    backend.forget_links_of_etags()
    with pytest.raises(StaleEtagError):
        store.records.delete(RecordKind.CLIENT, BILLING, expected=created)

    store.records.delete(
        RecordKind.CLIENT, BILLING, expected=Revision.parse(f"{created.epoch}.{created.position}")
    )

    assert store.records.get(Client, BILLING) is None
