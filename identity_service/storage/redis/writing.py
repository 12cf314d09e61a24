"""Running the scripts that change a store: each gets the epoch, the time and the audit event from here.

Owns the epoch that this process follows. A part of the store names only the keys and arguments of its own, so
that no mutation can leave out the epoch, or write without a confirmation by accident.
"""

from collections.abc import Sequence
from typing import Any

from identity_service.domain.audit import AuditEvent, RingSizes
from identity_service.domain.ids import Epoch
from identity_service.domain.ports import Clock
from identity_service.storage.codec import encode_event
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.client.connection import Connection
from identity_service.storage.redis.values import time_text


class Writer:
    """Runs mutating scripts under the epoch that this process follows. Thread-safe."""

    def __init__(self, connection: Connection, clock: Clock | None, keep: RingSizes) -> None:
        """Begin with an epoch that no store has, so that nothing is written before an epoch is adopted.

        Args:
            connection: runs the scripts.
            clock: None = the scripts use the clock of the server.
            keep: how many audit events are kept.
        """
        self._connection = connection
        self._clock = clock
        self._keep = keep
        self._epoch = Epoch("")

    def adopt(self, epoch: Epoch) -> None:
        """Expect this epoch in every write from now on."""
        self._epoch = epoch

    def expected(self) -> Epoch:
        """Return the epoch that writes expect.

        The caller reads it once for each write: another thread may adopt a new epoch while the script runs.
        """
        return self._epoch

    def now(self) -> str:
        """Return the time as scripts take it, in Unix seconds; empty = they use the server's clock."""
        return "" if self._clock is None else time_text(self._clock.now())

    def event(self, audit: AuditEvent | None) -> tuple[list[str], list[str | int]]:
        """Return the keys and arguments that a script needs to store the event of its change.

        They come after all other keys and arguments of the script. Both are empty if there is no event.
        """
        if audit is None:
            return [], []
        return [keys.AUDIT], [self.now(), self._keep.changes, encode_event(audit)]

    def mutate(
        self,
        script: str,
        own_keys: Sequence[str] = (),
        words: Sequence[str | int] = (),
        *,
        audit: AuditEvent | None = None,
        epoch: Epoch | None = None,
        repeatable: bool = True,
        durable: bool = True,
    ) -> tuple[Epoch, Any]:
        """Run a script that changes the log; return the epoch under which it ran, and its answer.

        The script gets head, log and generations as its first keys, and epoch and time as its first
        arguments. `epoch` None = the epoch that was adopted last. `repeatable`, `durable` and the errors are
        those of `Connection.run`.
        """
        epoch = self._epoch if epoch is None else epoch
        audit_keys, audit_words = self.event(audit)
        answer = self._connection.run(
            script,
            [keys.HEAD, keys.LOG, keys.GENERATIONS, *own_keys, *audit_keys],
            [epoch, self.now(), *words, *audit_words],
            repeatable=repeatable,
            durable=durable,
        )
        return epoch, answer
