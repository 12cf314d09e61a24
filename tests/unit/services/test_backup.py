"""A backup is written from one consistent copy, or not at all."""

from collections.abc import Iterable, Mapping

import pytest

from identity_service.domain.copying import (
    CopiedGeneration,
    CopiedItem,
    CopiedRecord,
    Fence,
    Manifest,
    RecordDeleted,
)
from identity_service.domain.errors import AlreadyExistsError, StoreFencedError, StoreReplacedError
from identity_service.domain.ids import Epoch, Link, PrincipalId, TokenId
from identity_service.domain.log import Generation, RecordKind, TokenDenied
from identity_service.services.backup import BackedUp, back_up
from tests.conformance.samples import TIME, a_client, a_key, a_user
from tests.unit.services.copied_store import NOW, MemoryStore

DENIED = TokenDenied(token_id=TokenId("t1"), deny_until=TIME)
ITEMS: list[CopiedItem] = [
    CopiedRecord(record=a_client("one")),
    CopiedRecord(record=a_client("two")),
    CopiedRecord(record=a_client("one")),
    CopiedRecord(record=a_user()),
    CopiedRecord(record=a_key()),
    RecordDeleted(kind=RecordKind.CLIENT, id="two"),
    CopiedGeneration(principal=PrincipalId("one"), generation=Generation(number=1, link=Link("l"))),
    CopiedGeneration(principal=PrincipalId("one"), generation=Generation(number=2, link=Link("m"))),
    DENIED,
    DENIED,
]
REPLACED = StoreReplacedError("the log got another epoch")


class Written:
    """Implements the port BackupWriter."""

    def __init__(self, *, taken: bool = False) -> None:
        self.taken = taken
        self.manifest: Manifest | None = None
        self.items: list[CopiedItem] = []

    def require_free(self) -> None:
        if self.taken:
            raise AlreadyExistsError("there is a file")

    def write(self, manifest: Manifest, items: Iterable[CopiedItem]) -> Mapping[str, int]:
        self.items = list(items)
        self.manifest = manifest
        return {}


def made(store: MemoryStore, writer: Written) -> BackedUp:
    return back_up(
        store.copying,
        writer,
        check_key=lambda key: None,
        issuer="https://id.example",
        version="1.2.3",
    )


def test_a_backup_contains_every_item_and_counts_each_once() -> None:
    writer = Written()
    backed_up = made(MemoryStore(ITEMS, "e1"), writer)

    assert writer.items == ITEMS
    assert writer.manifest == backed_up.manifest
    assert backed_up.manifest == Manifest(
        time=NOW, revision="e1.0.-", issuer="https://id.example", version="1.2.3"
    )
    found = {name: count for name, count in backed_up.counts.items() if count}
    assert found == {"clients": 1, "users": 1, "keys": 1, "generations": 1, "denied_tokens": 1}


@pytest.mark.parametrize("times", [1, 2])
def test_it_begins_again_if_the_store_is_replaced_meanwhile(times: int) -> None:
    store, writer = MemoryStore(ITEMS, "e1"), Written()
    store.fail("item", *[None, REPLACED] * times)

    made(store, writer)

    assert writer.items == ITEMS


def test_it_gives_up_after_three_times() -> None:
    store, writer = MemoryStore(ITEMS, "e1"), Written()
    store.fail("item", *[REPLACED] * 3)
    with pytest.raises(StoreReplacedError):
        made(store, writer)
    assert writer.manifest is None


def test_the_store_is_not_read_if_the_file_is_there_already() -> None:
    store = MemoryStore(ITEMS, "e1")
    store.fail("head", AssertionError("was read"))
    with pytest.raises(AlreadyExistsError):
        made(store, Written(taken=True))


def test_a_store_that_was_moved_is_not_backed_up() -> None:
    """The backup would lack the revocations in the new store, and nothing would show it."""
    store = MemoryStore(ITEMS, "e1")
    store.fence(Fence(target="redis://elsewhere", epoch=Epoch("e2")))
    with pytest.raises(StoreFencedError, match="redis://elsewhere"):
        made(store, Written())
