"""An unreachable store: every call raises an error of the domain instead of returning a guess."""

import contextlib
import time
from collections.abc import Callable

import pytest

from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.ids import new_epoch
from identity_service.domain.store import Store
from tests.conformance.backends import Backend
from tests.conformance.samples import MUTATIONS, READS, deny
from tests.patience import PATIENCE

CALLS: dict[str, Callable[[Store], object]] = {
    **MUTATIONS,
    **READS,
    "log.heartbeat": lambda s: s.log.heartbeat("process-1"),
    "initialise": lambda s: s.initialise(new_epoch()),
}


def test_every_call_to_an_unreachable_store_is_unavailable(store: Store, backend: Backend) -> None:
    deny(store)
    backend.cut_off()
    for name, call in CALLS.items():
        with pytest.raises(StoreUnavailableError):
            pytest.fail(f"{name} answered {call(store)!r}")


def test_waiting_for_an_unreachable_store_ends(store: Store, backend: Backend) -> None:
    """The wait may return or raise an error, since the read that follows it raises one in any case."""
    backend.cut_off()
    begun = time.monotonic()
    with contextlib.suppress(StoreUnavailableError):
        store.log.wait(0, 0.05)
    assert time.monotonic() - begun < PATIENCE


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_every_call_to_a_closed_store_is_unavailable(store: Store, call: Callable[[Store], object]) -> None:
    store.close()
    with pytest.raises(StoreUnavailableError):
        call(store)


def test_closing_twice_is_fine_and_leaves_other_instances_alone(store: Store, backend: Backend) -> None:
    other = backend.open()
    store.close()
    store.close()
    deny(other)
    assert other.log.head().position == 1
