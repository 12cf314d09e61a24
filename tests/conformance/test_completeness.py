"""A log that holds less than its store is found at the next start, and completed before anything is said.

No process runs while entries are lost, so that only the state of the store can say what they were.
"""

from collections.abc import Callable

import pytest

from identity_service.domain.ids import PrincipalId, SessionId, TokenId
from identity_service.domain.store import Store
from identity_service.storage.replica import Replica
from tests.conformance.backends import Backend
from tests.conformance.samples import LATER, MUCH_LATER
from tests.conformance.test_repair import Silent, follow

ALICE = PrincipalId("alice")
COUNT = 12


def revoke(store: Store, name: str) -> None:
    """One revocation of each kind, and nothing of what is called `<name>-control`."""
    store.deny_token(TokenId(f"t-{name}"), LATER)
    store.end_session(SessionId(f"s-{name}"), deny_until=LATER, end_until=MUCH_LATER)
    store.raise_generation(PrincipalId(f"p-{name}"), above=0, request_id=None)


def forgotten(replica: Replica, names: list[str]) -> list[str]:
    """What of these revocations a process does not know."""
    known = replica.revocations
    tokens = [f"{kind}-{name}" for name in names for kind in "ts" if f"{kind}-{name}" not in known.denylist]
    return tokens + [f"p-{n}" for n in names if PrincipalId(f"p-{n}") not in known.generations]


def assert_complete(backend: Backend, names: list[str]) -> Silent:
    """Start a process: it knows every revocation, and nothing else; returns what it logged."""
    _, newcomer, journal = follow(backend)
    assert forgotten(newcomer, names) == []
    assert newcomer.is_fresh()
    controls = [f"{name}-control" for name in names]
    assert len(forgotten(newcomer, controls)) == 3 * len(names), "the same without a revocation is not denied"
    return journal


def renewed_once(store: Store, backend: Backend) -> None:
    """A log that got a new epoch for a loss which was made good, so that all of it lies below the floor."""
    _, replica, _ = follow(backend)
    store.deny_token(TokenId("lost"), LATER)
    replica.catch_up()
    position = store.head().position
    backend.remove_entries(position, position)
    replica.beat("p")
    replica.upkeep.do()
    replica.beat("p")
    assert store.head().floor == position
    store.adopt(store.head().epoch)


LOSSES: dict[str, Callable[[Backend, int], None]] = {
    "some at the start": lambda backend, last: backend.remove_entries(1, last // 2),
    "some in the middle": lambda backend, last: backend.remove_entries(last // 3, last // 2),
    "one": lambda backend, last: backend.remove_entries(2, 2),
    "all but the last": lambda backend, last: backend.remove_entries(1, last - 1),
    "some at the end": lambda backend, last: backend.remove_entries(last // 2, last),
    "the whole log": lambda backend, last: backend.lose_log(),
}
each_loss = pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES.keys())


@each_loss
@pytest.mark.parametrize("below_the_floor", [False, True], ids=["", "below the floor"])
def test_entries_that_were_lost_while_no_process_ran_are_back(
    store: Store, backend: Backend, lose: Callable[[Backend, int], None], below_the_floor: bool
) -> None:
    names = [f"{n}" for n in range(COUNT)]
    for name in names:
        revoke(store, name)
    if below_the_floor:
        renewed_once(store, backend)
    lose(backend, 3 * COUNT)

    assert_complete(backend, names)
    assert_complete(backend, names)
