"""Records of clients, users, keys and issuers: stored whole, guarded by etag and unique name, paged."""

from dataclasses import replace

import pytest

from identity_service.domain.errors import AlreadyExistsError, NotFoundError, StaleEtagError
from identity_service.domain.ids import Link, PrincipalId, new_epoch
from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.log import GenerationRaised, RecordChanged, RecordKind, Revision
from identity_service.domain.principals import Client, OnReuse, User
from identity_service.domain.records import Record
from identity_service.domain.store import Store
from tests.conformance.samples import a_client, a_key, a_user, an_issuer, deny, entries_of, stored

RECORDS: dict[str, Record] = {
    "client": a_client(),
    "client with defaults": Client(client_id=PrincipalId("plain")),
    "user": a_user(),
    "user with defaults": User(user_id=PrincipalId("u_2"), username="bob"),
    "signing key": a_key(),
    "trusted issuer": an_issuer(),
    "trusted issuer, with keys": an_issuer(jwks_uri=None, jwks='{"keys":[]}', max_age=None, rules=()),
    "refresh key": a_key("key-2", purpose=KeyPurpose.REFRESH, algorithm="HS256", public_jwk=None),
}

USERNAME_VARIANTS = {
    "the same": "alice",
    "upper case": "ALICE",
    "spaces around": "  alice ",
    "full-width letters": "\uff41\uff4c\uff49\uff43\uff45",
    "a ligature, folded": "Ａlice",  # noqa: RUF001  # look-alikes are the point
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())
def test_a_record_comes_back_as_it_was_created(store: Store, record: Record) -> None:
    appended = store.records.create(record)
    found = stored(store, record)
    assert found is not None
    assert found.record == record
    assert found.revision == appended.revision


def test_a_record_that_was_never_created_is_none(store: Store) -> None:
    assert store.records.get(Client, "billing") is None
    assert store.records.get(User, "u_1") is None
    assert store.records.get(StoredKey, "key-1") is None


def test_a_record_is_found_under_its_own_kind_only(store: Store) -> None:
    store.records.create(a_key("same"))
    assert store.records.get(Client, "same") is None
    assert store.records.get(User, "same") is None


def test_creating_appends_one_change_of_that_record(store: Store) -> None:
    appended = store.records.create(a_client())
    change = RecordChanged(kind=RecordKind.CLIENT, id="billing")
    assert [entry.change for entry in entries_of(store)] == [change]
    assert [c for c, _ in appended.changes] == [change]


@pytest.mark.parametrize("record", [a_client(), a_user(), a_key()], ids=["client", "user", "key"])
def test_a_taken_id_is_refused_and_changes_nothing(store: Store, record: Record) -> None:
    store.records.create(record)
    before = store.log.head()
    with pytest.raises(AlreadyExistsError):
        store.records.create(record)
    assert store.log.head() == before


def test_clients_and_users_share_one_namespace_of_ids(store: Store) -> None:
    """A generation belongs to an id, so one id must not name both a client and a user."""
    store.records.create(a_client("shared"))
    store.records.create(a_user("u_1"))
    with pytest.raises(AlreadyExistsError):
        store.records.create(a_user("shared", username="somebody"))
    with pytest.raises(AlreadyExistsError):
        store.records.create(a_client("u_1"))
    assert store.records.find_user("somebody") is None


@pytest.mark.parametrize("variant", USERNAME_VARIANTS.values(), ids=USERNAME_VARIANTS.keys())
def test_a_taken_username_is_refused_in_every_spelling(store: Store, variant: str) -> None:
    store.records.create(a_user("u_1", "Alice"))
    before = store.log.head()
    with pytest.raises(AlreadyExistsError):
        store.records.create(a_user("u_2", variant))
    assert store.records.get(User, "u_2") is None
    assert store.log.head() == before


@pytest.mark.parametrize("variant", USERNAME_VARIANTS.values(), ids=USERNAME_VARIANTS.keys())
def test_a_user_is_found_by_every_spelling_of_the_username(store: Store, variant: str) -> None:
    store.records.create(a_user("u_1", "Alice"))
    assert store.records.find_user(variant) == store.records.get(User, "u_1")


def test_an_unknown_username_is_none(store: Store) -> None:
    store.records.create(a_user("u_1", "alice"))
    assert store.records.find_user("alic") is None


def test_an_update_replaces_the_record_and_its_revision(store: Store) -> None:
    created = store.records.create(a_client())
    changed = a_client(display_name="", secrets=(), on_reuse=OnReuse.END_SESSION, max_lifetime=None)
    updated = store.records.update(changed, expected=created.revision)
    found = store.records.get(Client, "billing")
    assert found is not None
    assert found.record == changed
    assert found.revision == updated.revision
    assert updated.revision.position == created.revision.position + 1


def test_the_revision_of_one_write_is_the_etag_of_the_next(store: Store) -> None:
    """A caller can update a record again without reading it in between, whether an update revokes or not."""
    revision = store.records.create(a_client()).revision
    revision = store.records.update(a_client(display_name="a"), expected=revision, revoke=True).revision
    revision = store.records.update(a_client(display_name="b"), expected=revision).revision
    found = store.records.get(Client, "billing")
    assert found is not None
    assert found.record.display_name == "b"


def test_a_stale_etag_is_refused_and_changes_nothing(store: Store) -> None:
    created = store.records.create(a_client())
    store.records.update(a_client(display_name="first"), expected=created.revision)
    before = store.log.head()
    with pytest.raises(StaleEtagError):
        store.records.update(a_client(display_name="second"), expected=created.revision, revoke=True)
    found = store.records.get(Client, "billing")
    assert found is not None
    assert found.record.display_name == "first"
    assert store.log.head() == before
    assert store.log.generations() == {}


def test_an_etag_of_another_epoch_is_stale(store: Store) -> None:
    created = store.records.create(a_client())
    with pytest.raises(StaleEtagError):
        store.records.update(a_client(), expected=replace(created.revision, epoch=new_epoch()))


def test_other_changes_leave_an_etag_good(store: Store) -> None:
    created = store.records.create(a_client())
    deny(store, 3)
    store.records.create(a_client("other"))
    store.records.update(a_client(display_name="new"), expected=created.revision)
    found = store.records.get(Client, "billing")
    assert found is not None
    assert found.revision.position == created.revision.position + 5


def test_updating_an_unknown_record_is_not_found(store: Store) -> None:
    before = store.log.head()
    with pytest.raises(NotFoundError):
        store.records.update(a_client(), expected=before.revision)
    assert store.log.head() == before


def test_a_user_may_be_renamed_and_the_old_name_is_free(store: Store) -> None:
    created = store.records.create(a_user("u_1", "alice"))
    store.records.update(a_user("u_1", "Alicia"), expected=created.revision)
    assert store.records.find_user("alice") is None
    assert store.records.find_user("ALICIA") == store.records.get(User, "u_1")
    store.records.create(a_user("u_2", "alice"))
    assert store.records.find_user("alice") == store.records.get(User, "u_2")


def test_a_user_may_be_renamed_to_another_spelling_of_the_same_name(store: Store) -> None:
    created = store.records.create(a_user("u_1", "alice"))
    store.records.update(a_user("u_1", "Alice"), expected=created.revision)
    found = store.records.find_user("alice")
    assert found is not None
    assert found.record.username == "Alice"


def test_renaming_to_a_taken_username_is_refused_and_changes_nothing(store: Store) -> None:
    store.records.create(a_user("u_1", "alice"))
    bob = store.records.create(a_user("u_2", "bob"))
    before = store.log.head()
    with pytest.raises(AlreadyExistsError):
        store.records.update(a_user("u_2", "ALICE"), expected=bob.revision, revoke=True)
    found = store.records.find_user("bob")
    assert found is not None
    assert found.record.user_id == "u_2"
    assert store.log.head() == before
    assert store.log.generations() == {}


def test_an_update_that_revokes_appends_record_and_generation_side_by_side(store: Store) -> None:
    """The entry of the record comes first: no token may have the new generation but the old record."""
    created = store.records.create(a_client())
    updated = store.records.update(a_client(disabled=True), expected=created.revision, revoke=True, above=4)
    record, raised = entries_of(store)[1:]
    assert record.change == RecordChanged(kind=RecordKind.CLIENT, id="billing")
    assert raised.change == GenerationRaised(principal=PrincipalId("billing"), number=5)
    assert updated.changes == ((record.change, record.link), (raised.change, raised.link))
    assert updated.revision.position == raised.position
    assert store.log.generations()[PrincipalId("billing")].link == raised.link


@pytest.mark.parametrize("record", [a_client(), a_user()], ids=["client", "user"])
def test_deleting_a_principal_raises_its_generation_in_the_same_step(store: Store, record: Record) -> None:
    store.records.create(record)
    kind = RecordKind.CLIENT if isinstance(record, Client) else RecordKind.USER
    deleted = store.records.delete(kind, record.id, above=2)
    changed, raised = entries_of(store)[1:]
    assert stored(store, record) is None
    assert changed.change == RecordChanged(kind=kind, id=record.id)
    assert raised.change == GenerationRaised(principal=PrincipalId(record.id), number=3)
    assert deleted.changes == ((changed.change, changed.link), (raised.change, raised.link))
    assert deleted.revision.position == raised.position


def test_deleting_a_key_raises_no_generation(store: Store) -> None:
    store.records.create(a_key())
    deleted = store.records.delete(RecordKind.KEY, "key-1")
    assert store.records.get(StoredKey, "key-1") is None
    assert [c for c, _ in deleted.changes] == [RecordChanged(kind=RecordKind.KEY, id="key-1")]
    assert store.log.generations() == {}


def test_deleting_an_unknown_record_is_not_found(store: Store) -> None:
    store.records.create(a_client())
    before = store.log.head()
    with pytest.raises(NotFoundError):
        store.records.delete(RecordKind.USER, "billing")
    assert store.log.head() == before
    assert store.log.generations() == {}


def test_deleting_a_user_frees_the_username(store: Store) -> None:
    store.records.create(a_user("u_1", "alice"))
    store.records.delete(RecordKind.USER, "u_1")
    assert store.records.find_user("alice") is None
    store.records.create(a_user("u_2", "alice"))
    assert store.records.find_user("alice") == store.records.get(User, "u_2")


def test_an_id_may_be_created_again_and_keeps_its_raised_generation(store: Store) -> None:
    store.records.create(a_client())
    store.records.delete(RecordKind.CLIENT, "billing")
    raised = store.log.generations()[PrincipalId("billing")]
    store.records.create(a_client())
    assert store.records.get(Client, "billing") is not None
    assert store.log.generations()[PrincipalId("billing")] == raised


def test_an_etag_from_before_a_deletion_is_stale_after_creating_again(store: Store) -> None:
    first = store.records.create(a_client())
    store.records.delete(RecordKind.CLIENT, "billing")
    store.records.create(a_client())
    with pytest.raises(StaleEtagError):
        store.records.update(a_client(), expected=first.revision)


def test_records_are_listed_by_id_in_pages_without_gap_or_repetition(store: Store) -> None:
    ids = sorted(["a", "A", "a.b", "a:b", "b", "B-1", "c10", "c9", "z", "0", "client/1"])
    for id_ in reversed(ids):
        store.records.create(a_client(id_))
    store.records.create(a_user("m"))
    store.records.create(a_key("n"))
    listed: list[str] = []
    while page := store.records.list_of(Client, after=listed[-1] if listed else "", limit=3):
        assert len(page) <= 3
        listed += [v.record.client_id for v in page]
    assert listed == ids


def test_a_page_may_start_after_an_id_that_does_not_exist(store: Store) -> None:
    for id_ in ("a", "c"):
        store.records.create(a_client(id_))
    assert [v.record.client_id for v in store.records.list_of(Client, after="b")] == ["c"]


def test_a_listed_record_has_its_etag_and_a_deleted_one_is_gone(store: Store) -> None:
    store.records.create(a_user("u_1", "alice"))
    store.records.create(a_user("u_2", "bob"))
    store.records.delete(RecordKind.USER, "u_1")
    assert list(store.records.list_of(User)) == [store.records.get(User, "u_2")]


def test_a_revision_names_the_epoch_of_the_log(store: Store) -> None:
    appended = store.records.create(a_client())
    (entry,) = store.log.read(0, 9).entries
    assert appended.revision == Revision(epoch=store.log.head().epoch, position=1, link=entry.link)


def test_a_client_is_found_by_each_of_its_certificates(store: Store) -> None:
    names = frozenset({"spiffe://example/a", "dns:a.example"})
    store.records.create(a_client("a", certificates=names))
    store.records.create(a_client("b", certificates=frozenset()))

    for name in names:
        found = store.records.find_client(name)
        assert found is not None
        assert found.record.client_id == "a"
    assert store.records.find_client("dns:b.example") is None


def test_a_certificate_is_of_one_client_only(store: Store) -> None:
    name = frozenset({"dns:a.example"})
    store.records.create(a_client("a", certificates=name))
    etag = store.records.create(a_client("b", certificates=frozenset())).revision

    with pytest.raises(AlreadyExistsError):
        store.records.create(a_client("c", certificates=name))
    with pytest.raises(AlreadyExistsError):
        store.records.update(a_client("b", certificates=name), expected=etag)

    assert store.records.get(Client, "c") is None


def test_a_certificate_that_a_client_gives_up_is_free_for_another(store: Store) -> None:
    name = frozenset({"dns:a.example"})
    etag = store.records.create(a_client("a", certificates=name)).revision
    store.records.update(a_client("a", certificates=frozenset({"dns:new.example"})), expected=etag)

    store.records.create(a_client("b", certificates=name))
    store.records.delete(RecordKind.CLIENT, "b")

    assert store.records.find_client("dns:a.example") is None
    assert store.records.find_client("dns:new.example") is not None
    store.records.create(a_client("c", certificates=name))


def test_deleting_a_trusted_issuer_raises_no_generation(store: Store) -> None:
    store.records.create(an_issuer("https://a.example"))

    store.records.delete(RecordKind.ISSUER, "https://a.example")

    assert store.log.generations() == {}


def test_a_record_is_deleted_only_if_it_is_still_the_one_that_was_read(store: Store) -> None:
    old = store.records.create(a_user("u_1")).revision
    new = store.records.update(a_user("u_1", "carol"), expected=old).revision

    with pytest.raises(StaleEtagError):
        store.records.delete(RecordKind.USER, "u_1", expected=old)
    store.records.delete(RecordKind.USER, "u_1", expected=new)

    assert store.records.get(User, "u_1") is None
    assert store.records.find_user("carol") is None


def test_the_raise_of_an_update_and_of_a_delete_is_known_by_the_link_that_was_asked_for(store: Store) -> None:
    """A caller that got no answer can therefore resend exactly the raise that the store may have made."""
    etag = store.records.create(a_user("u_1")).revision
    store.records.update(a_user("u_1"), expected=etag, revoke=True, link=Link("first"))
    assert store.log.generations()[PrincipalId("u_1")].link == "first"

    store.records.delete(RecordKind.USER, "u_1", link=Link("second"))

    assert store.log.generations()[PrincipalId("u_1")].link == "second"
    assert entries_of(store)[-1].link == "second"
