"""Helpers for the tests of repair: a store with a replica of its log, as a process has them, and its writes.

The module asserts nothing.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from identity_service.domain.ids import PrincipalId, SessionId, TokenId
from identity_service.domain.log import Appended
from identity_service.domain.store import Store
from identity_service.replication.replica import Replica, ReplicaConfig
from tests.conformance.backends import Backend
from tests.conformance.samples import LATER, MUCH_LATER
from tests.fakes.event_logs import RecordingEventLog

ALICE: Final = PrincipalId("alice")
RETENTION: Final = timedelta(hours=2)
OWN_WRITES: Final[dict[str, Callable[[Store], Appended]]] = {
    "a denial": lambda s: s.facts.deny_token(TokenId("t1"), LATER),
    "the end of a session": lambda s: s.facts.end_session(
        SessionId("s1"), deny_until=LATER, end_until=MUCH_LATER
    ),
    "a raise": lambda s: s.facts.raise_generation(ALICE, above=0, request_id=None),
}


def follow(backend: Backend) -> tuple[Store, Replica, RecordingEventLog]:
    """Return the store of another process, and its replica, which has read the log."""
    store, event_log = backend.open(), RecordingEventLog()
    replica = Replica(store.log, backend.clock, event_log, ReplicaConfig(retention=RETENTION))
    replica.load()
    replica.heartbeat("p")
    return store, replica, event_log
