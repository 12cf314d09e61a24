"""After a restore no revoked token is accepted, whatever was in the store and whichever step failed."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from identity_service.domain.audit import AuditType
from identity_service.domain.copying import (
    CopiedEvent,
    CopiedGeneration,
    CopiedItem,
    CopiedMarks,
    CopiedRecord,
    Manifest,
    RecordDeleted,
)
from identity_service.domain.errors import (
    AlreadyExistsError,
    ConfigurationError,
    NotConfirmedError,
    StoreUnavailableError,
)
from identity_service.domain.ids import EVERYONE, Epoch, Link, PrincipalId, TokenId, key_principal
from identity_service.domain.keys import KeyPolicy, KeyPurpose, KeySchedule, KeyState, StoredKey
from identity_service.domain.log import Generation, Marks, RecordKind, TokenDenied
from identity_service.domain.principals import Client
from identity_service.domain.records import Record
from identity_service.domain.secret import Secret
from identity_service.jose.encryption import SERVICE_ALGORITHM
from identity_service.jose.sealing import Sealer
from identity_service.jose.vault import Vault
from identity_service.services.regained import NAMED
from identity_service.services.restore import Restore, RestoreConfig, Restored
from tests.conformance.samples import TIME, a_client, a_user, an_issuer
from tests.fakes.clocks import FakeClock
from tests.unit.services.copied_store import MemoryStore, events_of, generations_of, records_of

CLOCK = FakeClock()
VAULT = Vault(Sealer(Secret("the master key of these tests, long enough")))
OTHER_VAULT = Vault(Sealer(Secret("another master key, which is long enough too")))
MONTH = timedelta(days=30)
POLICY = KeyPolicy(
    rotate_every=MONTH,
    publish_before=timedelta(hours=1),
    lifetimes=dict.fromkeys(KeyPurpose, timedelta(days=1)),
)
BEFORE = CLOCK.now() - timedelta(days=1)
SIGN = VAULT.make(KeyPurpose.SIGN, "ES256", BEFORE)
STANDBY = replace(VAULT.make(KeyPurpose.SIGN, "ES256", BEFORE), activate_time=BEFORE + MONTH)
REFRESH = VAULT.make(KeyPurpose.REFRESH, "HS256", BEFORE)
ENCRYPT = VAULT.make(KeyPurpose.ENCRYPT, SERVICE_ALGORITHM, BEFORE)
MARKS = CopiedMarks(marks=Marks(lifetime=timedelta(hours=1)), retention=timedelta(hours=7))
DENIED = TokenDenied(token_id=TokenId("t1"), deny_until=TIME)
MANIFEST = Manifest(time=BEFORE, revision="e1.17.abc", issuer="https://id.example", version="1.2.3")


def generation(principal: str, number: int, link: str = "l") -> CopiedGeneration:
    return CopiedGeneration(
        principal=PrincipalId(principal), generation=Generation(number=number, link=Link(link))
    )


ITEMS: list[CopiedItem] = [
    MARKS,
    *(CopiedRecord(record=key) for key in (SIGN, STANDBY, REFRESH, ENCRYPT)),
    CopiedRecord(record=a_client("one")),
    generation("*", 4),
    generation("one", 2),
    generation("two", 5),
    DENIED,
]


class Read:
    """Implements the port BackupReader."""

    def __init__(self, items: list[CopiedItem], *, damaged_at: int | None = None) -> None:
        self._items = items
        self._damaged_at = damaged_at

    @property
    def manifest(self) -> Manifest:
        return MANIFEST

    def items(self) -> Iterator[CopiedItem]:
        yield from self._items[: self._damaged_at]
        if self._damaged_at is not None:
            raise ConfigurationError("the backup is cut off")


def a_restore(
    store: MemoryStore,
    items: list[CopiedItem] | None = None,
    *,
    vault: Vault = VAULT,
    damaged_at: int | None = None,
) -> Restore:
    config = RestoreConfig(algorithm="EdDSA", policy=POLICY)
    reader = Read(ITEMS if items is None else items, damaged_at=damaged_at)

    def require_stopped() -> None:
        if store.written_heartbeats:
            raise ConfigurationError("a process serves")

    return Restore(store.store, reader, vault, CLOCK, config, require_stopped)


def restored(store: MemoryStore, items: list[CopiedItem] | None = None, *, replace: bool = False) -> Restored:
    use_case = a_restore(store, items)
    return use_case.run(use_case.prepare(replace=replace))


def has_head(store: MemoryStore) -> bool:
    return store.epoch is not None


def old_store(*items: CopiedItem) -> MemoryStore:
    return MemoryStore(items or [generation("*", 1)], "old")


def test_everything_but_generations_is_as_in_the_backup() -> None:
    store = MemoryStore()
    done = restored(store)

    kept = [item for item in ITEMS if not isinstance(item, CopiedGeneration)]
    assert store.items[: len(kept)] == kept
    assert done.manifest == MANIFEST
    assert (done.counts["clients"], done.counts["keys"], done.counts["denied_tokens"]) == (1, 4, 1)
    assert store.adopted == store.epoch
    assert store.epoch not in (None, "e1", "old")
    assert store.rebuilt == 1


def test_each_generation_is_the_higher_one_and_that_of_the_whole_service_is_above_both() -> None:
    store = old_store(generation("*", 9), generation("one", 7), generation("three", 3))
    restored(store, replace=True)

    found = generations_of(store.items)
    assert found[EVERYONE].number == 10
    assert found[PrincipalId("one")] == Generation(number=7, link=Link("l"))
    assert found[PrincipalId("two")] == Generation(number=5, link=Link("l"))
    assert found[PrincipalId("three")] == Generation(number=3, link=Link("l"))


def test_the_same_generation_of_two_histories_is_raised_above_both() -> None:
    store = old_store(generation("*", 4, "other"), generation("one", 2, "other"), generation("two", 5, "l"))
    restored(store, replace=True)

    found = generations_of(store.items)
    for held in (Generation(number=2, link=Link("l")), Generation(number=2, link=Link("other"))):
        assert found[PrincipalId("one")].is_raised_over(held)
    assert found[PrincipalId("two")] == Generation(number=5, link=Link("l")), "it is the same raise"
    assert found[EVERYONE].number == 6


def test_every_signing_key_is_retired_and_a_new_one_signs() -> None:
    store = MemoryStore()
    done = restored(store)

    found = generations_of(store.items)
    keys: list[StoredKey] = records_of(store.items, StoredKey)
    revoked = [key.key_id for key in keys if key_principal(key.key_id) in found]
    schedule = KeySchedule(keys, revoked, KeyPurpose.SIGN, CLOCK.now())
    assert set(revoked) == {SIGN.key_id, STANDBY.key_id}
    assert schedule.in_use is not None
    assert (schedule.in_use.key_id, schedule.in_use.algorithm) == (done.signing_key, "EdDSA")
    (waiting,) = schedule.waiting
    assert waiting.activate_time == CLOCK.now() + MONTH
    for key in (schedule.in_use, waiting):
        VAULT.open_signing(key)
    for purpose, kept in ((KeyPurpose.REFRESH, REFRESH), (KeyPurpose.ENCRYPT, ENCRYPT)):
        of_purpose = KeySchedule(keys, revoked, purpose, CLOCK.now())
        assert of_purpose.in_use == kept
        assert of_purpose.state(kept) is KeyState.SIGNING


def test_a_retired_key_is_raised_once_more() -> None:
    principal = key_principal(SIGN.key_id)
    store = old_store(generation(principal, 2))
    restored(store, [*ITEMS, generation(principal, 1)], replace=True)

    assert generations_of(store.items)[principal].number == 3


def test_the_restored_store_has_an_audit_event_of_it() -> None:
    store = MemoryStore()
    restored(store)
    (found,) = events_of(store.items)
    assert isinstance(found, CopiedEvent)
    event = found.event.event
    assert event.type is AuditType.STORE_RESTORED
    assert dict(event.details) == {"time": BEFORE.isoformat(), "revision": "e1.17.abc"}


# Reasons to stop before anything is changed.


def untouched(store: MemoryStore, use_case: Restore, *, replace: bool = True) -> BaseException:
    before = list(store.items), store.epoch
    with pytest.raises((ConfigurationError, AlreadyExistsError)) as caught:
        use_case.run(use_case.prepare(replace=replace))
    assert (store.items, store.epoch) == before
    assert not store.is_unfinished
    return caught.value


@pytest.mark.parametrize("damaged_at", range(len(ITEMS) + 1))
def test_a_damaged_backup_touches_nothing(damaged_at: int) -> None:
    store = old_store()
    assert "cut off" in str(untouched(store, a_restore(store, damaged_at=damaged_at)))


@pytest.mark.parametrize(
    "key", [SIGN, STANDBY, REFRESH, ENCRYPT], ids=["sign", "standby", "refresh", "encrypt"]
)
def test_a_key_that_the_master_key_does_not_open_touches_nothing(key: StoredKey) -> None:
    store = old_store()
    foreign = replace(key, sealed=OTHER_VAULT.make(KeyPurpose.REFRESH, "HS256", BEFORE).sealed)
    use_case = a_restore(store, [*ITEMS, CopiedRecord(record=foreign)])
    assert "master key" in str(untouched(store, use_case))


def test_another_store_is_not_deleted_unless_that_is_wanted() -> None:
    store = old_store()
    assert "--replace" in str(untouched(store, a_restore(store), replace=False))


def test_a_process_that_serves_touches_nothing() -> None:
    store = old_store()
    from identity_service.domain.log import Heartbeat

    store.written_heartbeats = (Heartbeat(process="p1", time=BEFORE, status=""),)
    assert "serves" in str(untouched(store, a_restore(store)))


# Failures while it writes.


@pytest.mark.parametrize("step", ["write_copy", "write_item", "write_head"])
@pytest.mark.parametrize("replace", [True, False])
def test_one_that_failed_leaves_no_store_and_may_be_run_again(step: str, replace: bool) -> None:
    store = old_store(generation("*", 9)) if replace else MemoryStore()
    store.fail(step, StoreUnavailableError("no connection"))
    with pytest.raises(StoreUnavailableError, match=r"no connection.*again"):
        restored(store, replace=replace)
    assert not has_head(store)

    restored(store)
    assert has_head(store)
    assert store.rebuilt == 1


def test_a_copy_that_another_command_has_finished_meanwhile_is_not_deleted_unasked() -> None:
    """A migration had written only a part of its copy when the restore looked, and has completed since."""
    store = MemoryStore()
    store.is_unfinished = True
    use_case = a_restore(store)
    prepared = use_case.prepare(replace=False)
    store.items, store.epoch, store.is_unfinished = [DENIED], Epoch("moved"), False
    with pytest.raises(AlreadyExistsError):
        use_case.run(prepared)
    assert (store.items, store.epoch) == ([DENIED], "moved")


def test_one_that_is_stopped_leaves_an_empty_store_as_it_was() -> None:
    store = MemoryStore()
    store.fail("write_item", None, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        restored(store)
    assert store.is_empty()


@pytest.mark.parametrize("error", [NotConfirmedError("too few"), StoreUnavailableError("no answer")])
def test_a_head_that_was_written_although_the_answer_was_lost_counts(error: Exception) -> None:
    store = MemoryStore()
    store.fail("confirm_head", error)
    restored(store)
    assert store.rebuilt == 1, "which confirms it"


def test_it_is_not_done_before_the_log_is_complete() -> None:
    store = MemoryStore()
    store.fail("rebuild", StoreUnavailableError("no connection"))
    with pytest.raises(StoreUnavailableError):
        restored(store)


# Principals that may do more again.


def test_principals_that_may_do_more_again_are_reported_by_name() -> None:
    lively = {"disabled": False}
    backup: list[CopiedItem] = [
        CopiedRecord(record=record)
        for record in (
            a_client("deleted", **lively),
            a_client("disabled", **lively),
            a_client("rotated", **lively),
            a_client("narrowed", **lively),
            a_client("same", **lively),
            a_client("off-already"),
            a_user("u_1", "alice", **lively),
            a_user("u_2", "bob", **lively),
            an_issuer("https://gone.example"),
            an_issuer("https://same.example"),
        )
    ]
    backup += [
        CopiedRecord(record=a_client("gone while copied", **lively)),
        RecordDeleted(kind=RecordKind.CLIENT, id="gone while copied"),
    ]
    now: list[Record] = [
        a_client("disabled", disabled=True),
        a_client("rotated", secrets=(), **lively),
        a_client("narrowed", scopes=frozenset({"orders.read"}), **lively),
        a_client("same", **lively),
        a_client("created since", **lively),
        a_user("u_1", "alice", password_hash="$argon2id$another", **lively),
        a_user("u_2", "bob", disabled=True),
        an_issuer("https://same.example"),
    ]
    done = restored(old_store(*(CopiedRecord(record=record) for record in now)), backup, replace=True)

    again = done.regained
    assert again is not None
    assert again.enabled.names == ["client deleted", "client disabled", "user bob (u_2)"]
    assert again.credentials.names == ["client rotated"]
    assert again.permissions.names == ["client narrowed"]
    assert again.passwords.names == ["user alice (u_1)"]
    assert again.issuers.names == ["https://gone.example"]


def test_names_are_bounded_and_the_rest_is_counted() -> None:
    backup: list[CopiedItem] = [
        CopiedRecord(record=Client(client_id=PrincipalId(f"c{number:03}"))) for number in range(55)
    ]
    done = restored(old_store(), backup, replace=True)
    assert done.regained is not None
    assert (len(done.regained.enabled.names), done.regained.enabled.count) == (NAMED, 55)


def test_a_store_that_cannot_be_read_is_replaced_all_the_same() -> None:
    store = old_store(generation("*", 9))
    store.fail("list_of", StoreUnavailableError("the head is lost"))
    done = restored(store, replace=True)
    assert done.regained is None
    assert generations_of(store.items)[EVERYONE].number == 10
