"""A fence blocks all writes to a store that was moved to another one, until it is lifted; reads go on."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import get_type_hints

import pytest

from identity_service.domain.copying import Fence
from identity_service.domain.errors import StoreDamagedError, StoreFencedError, StoreUninitializedError
from identity_service.domain.ids import Epoch, PrincipalId
from identity_service.domain.store import Store
from tests.conformance import samples
from tests.conformance.backends import Backend
from tests.conformance.copies import FENCE, HERE_ALONE, READS, WRITES, Held, exported, fill

Call = Callable[[Store], object]
NOT_FENCED = {"attempts", "copying"}
"""The parts of a store that a fence does not block: attempt counts, and the port that sets and lifts
fences."""
MOVED = r"this store was moved to redis://other\.example:6379/0 .*set the service's `store` to that URL"


@pytest.fixture
def fenced(store: Store) -> Store:
    fill(store)
    store.copying.fence(FENCE)
    return store


def calls_of(port: type) -> Iterator[str]:
    """Yield the names of all methods of a port, and those of its parts as `<part>.<method>`."""
    for name in dir(port):
        member = getattr(port, name)
        if isinstance(member, property) and name not in NOT_FENCED:
            yield from (f"{name}.{call}" for call in calls_of(get_type_hints(member.fget)["return"]))
        elif callable(member) and not name.startswith("_"):
            yield name


def test_every_call_of_the_port_is_known_to_write_or_not() -> None:
    assert {*calls_of(Store)} == WRITES.keys() | READS | HERE_ALONE


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_every_write_is_refused_and_changes_nothing(fenced: Store, backend: Backend, write: Call) -> None:
    other = backend.open()
    before, head = Held(fenced), fenced.log.head()
    for store in (fenced, other):
        with pytest.raises(StoreFencedError, match=MOVED) as refused:
            write(store)
        assert refused.value.target == FENCE.target
    assert (Held(fenced), fenced.log.head()) == (before, head)
    assert exported(fenced).used.keys() == {"jti-1"}


@pytest.mark.parametrize("read", samples.READS.values(), ids=samples.READS.keys())
def test_every_read_goes_on(fenced: Store, backend: Backend, read: Call) -> None:
    for store in (fenced, backend.open()):
        read(store)


def test_it_stands_for_every_process_that_opens_the_store(fenced: Store, backend: Backend) -> None:
    assert fenced.copying.fenced() == FENCE
    fenced.close()
    again = backend.open()
    assert again.copying.fenced() == FENCE
    with pytest.raises(StoreFencedError):
        again.log.heartbeat("p2")


def test_writes_are_taken_again_once_it_is_lifted(fenced: Store, backend: Backend) -> None:
    backend.open().copying.lift_fence()
    assert fenced.copying.fenced() is None
    fenced.log.heartbeat("p1")
    fenced.sessions.create(samples.a_session("s-new"))
    assert fenced.single_use.consume("jti-2", samples.LATER)
    samples.deny(fenced)
    fenced.copying.lift_fence()
    samples.deny(fenced)


def test_a_fence_to_the_same_store_is_replaced_and_one_to_another_is_refused(
    fenced: Store,
) -> None:
    again = Fence(target=FENCE.target, epoch=Epoch("e2"))
    fenced.copying.fence(again)
    assert fenced.copying.fenced() == again
    with pytest.raises(StoreFencedError, match=MOVED):
        fenced.copying.fence(Fence(target="sqlite:///elsewhere.db", epoch=Epoch("e3")))
    assert fenced.copying.fenced() == again


def test_a_store_without_a_head_cannot_be_fenced(backend: Backend) -> None:
    store = backend.open()
    with pytest.raises(StoreUninitializedError):
        store.copying.fence(FENCE)
    store.copying.lift_fence()
    assert store.copying.is_empty()


def test_writes_after_the_fence_are_refused_at_once(store: Store, backend: Backend) -> None:
    """A copy begun after the fence is set therefore contains all writes that the store has acknowledged."""
    other = backend.open()
    acknowledged = []

    def writes() -> Iterator[None]:
        while True:
            acknowledged.extend(samples.deny(other))
            yield

    writing = writes()
    for _ in range(3):
        next(writing)
    store.copying.fence(FENCE)
    with pytest.raises(StoreFencedError):
        next(writing)
    assert exported(store).denials.keys() == {*acknowledged}


def test_a_copy_that_replaces_a_moved_store_lifts_the_fence(fenced: Store) -> None:
    fenced.copying.write_copy([], Epoch("e9"), replace=True)
    assert fenced.copying.fenced() is None
    fenced.log.adopt(Epoch("e9"))
    fenced.log.rebuild()
    fenced.facts.raise_generation(PrincipalId("u_1"), above=0, request_id=None)


def test_a_fence_that_cannot_be_read_is_named(fenced: Store, backend: Backend) -> None:
    backend.spoil_fence()
    for call in (fenced.copying.fenced, lambda: fenced.log.heartbeat("p", timedelta(0))):
        with pytest.raises(StoreDamagedError, match="fence"):
            call()
    fenced.copying.lift_fence()
    fenced.log.heartbeat("p")
