"""The change log on Redis: reading it, and what keeps it whole. Knows nothing of records and sessions."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from identity_service.domain.errors import StoreDamagedError
from identity_service.domain.ids import Epoch, Link, PrincipalId, new_link
from identity_service.domain.log import (
    NEVER_RAISED,
    Fact,
    Generation,
    GenerationRaised,
    Head,
    Heartbeat,
    LogEntry,
    LogPage,
    Marks,
    PutBack,
    Revision,
)
from identity_service.domain.revocations import Revocations
from identity_service.domain.store import STATUS_LENGTH
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.client.connection import Connection, RunScript
from identity_service.storage.redis.values import (
    entries_of,
    generations_of,
    head_of,
    heartbeats_of,
    restore_words,
    time_text,
)
from identity_service.storage.redis.writing import Writing
from identity_service.storage.upgrade import require_stopped

_MAX_POSITION: Final = 2**63 - 1
FENCE: Final = "this store is of a newer version of identity-service: run that version"
"""What version 0.1.0 finds where its head was: no hash, so that whatever it asks fails."""
_HEARTBEAT_SECONDS: Final = 3600
_SCANNED: Final = 1000
"""Keys that one step of a rebuild looks at, so that it holds up the server for a few milliseconds at most."""
_WALKED: Final = 1000
_RAISED: Final = '"k":"gen"'
"""Stands in the JSON of every raise, and of no other change."""


class RedisLog:
    """The port `ChangeLog`."""

    def __init__(self, connection: Connection, writing: Writing) -> None:
        self._connection = connection
        self._writing = writing

    def head(self) -> Head:
        return self.read(0, 0).head

    def read(self, after: int, limit: int) -> LogPage:
        head, entries = self._connection.run(
            "read_log",
            [keys.HEAD, keys.LOG, keys.GENERATIONS],
            [self._writing.now(), min(after, _MAX_POSITION), limit],
        )
        return LogPage(
            entries=entries_of(entries),
            head=head_of(*head),
        )

    def read_entries(self, after: int, limit: int) -> tuple[LogEntry, ...]:
        # No script: it would turn every entry into values of Lua and back.
        found = self._connection.command("XRANGE", keys.LOG, f"({after}-0", "+", "COUNT", limit)
        return entries_of(found)

    def wait(self, after: int, timeout: float) -> None:
        self._connection.wait(keys.LOG, min(after, _MAX_POSITION), timeout)

    def heartbeat(self, process: str, retention: timedelta, marks: Marks, status: str) -> Head:
        grows = (retention, marks.lifetime, marks.session, marks.leeway)
        return head_of(
            *self._connection.run(
                "heartbeat",
                [keys.HEAD, keys.heartbeat(process), keys.LOG, keys.HEARTBEATS, keys.GENERATIONS],
                [
                    self._writing.now(),
                    _HEARTBEAT_SECONDS,
                    process,
                    status[:STATUS_LENGTH],
                    *(str(duration.total_seconds()) for duration in grows),
                    "" if marks.time is None else time_text(marks.time),
                ],
                durable=True,
            )
        )

    def heartbeats(self) -> Sequence[Heartbeat]:
        words: list[str | int] = [self._writing.now(), keys.heartbeat(""), _HEARTBEAT_SECONDS]
        return heartbeats_of(self._connection.run("list_heartbeats", [keys.HEARTBEATS], words))

    def upgrade(self) -> bool:
        """Bring a store of version 0.1.0 up to date, if it is one.

        Raises ConfigurationError: a process of that version still runs.
        """
        if not self._is_old():
            return False
        # In this order: a process of this version writes heartbeats only once the store is up to date.
        require_stopped(
            lambda: heartbeats if (heartbeats := self._old_heartbeats()) and self._is_old() else {}
        )
        found = [keys.HEAD, keys.OLD_HEAD, keys.LOG, keys.GENERATIONS]
        return bool(self._connection.run("upgrade", found, [FENCE], durable=True))

    def _is_old(self) -> bool:
        kind: str = self._connection.command("TYPE", keys.OLD_HEAD)
        return kind == "hash"

    def _old_heartbeats(self) -> Mapping[str, str]:
        heartbeats: dict[str, str] = {}
        prefix = keys.heartbeat("")

        def steps(run: RunScript) -> None:
            cursor = "0"
            while True:
                cursor, *found = run("scan_texts", [keys.HEAD], [cursor, prefix, _SCANNED])
                heartbeats.update(zip(found[::2], found[1::2], strict=True))
                if cursor == "0":
                    return

        self._connection.series(keys.HEAD, steps)
        return {key.removeprefix(prefix): value for key, value in heartbeats.items()}

    def generations(self) -> Mapping[PrincipalId, Generation]:
        flat: list[str] = self._connection.command("HGETALL", keys.GENERATIONS)
        return generations_of(dict(zip(flat[::2], flat[1::2], strict=True)))

    def adopt(self, epoch: Epoch) -> None:
        self._writing.adopt(epoch)

    def renew(self, found: Epoch | None, epoch: Epoch) -> Epoch:
        # Repeating it is safe: the second time it finds the epoch that it gave itself.
        now_has = self._connection.run(
            "renew_epoch",
            [keys.HEAD, keys.LOG, keys.GENERATIONS, keys.OLD_HEAD],
            [found or "", epoch, new_link(), FENCE],
            durable=True,
        )
        return Epoch(now_has)

    def restore(self, facts: Sequence[Fact]) -> PutBack:
        epoch = self._writing.expected()
        words = [word for fact in facts for word in restore_words(fact)]
        position, link, absent = self._connection.run(
            "restore_facts",
            [keys.HEAD, keys.LOG, keys.GENERATIONS],
            [epoch, self._writing.now(), keys.DENIALS, keys.ENDS, *words],
            durable=True,
        )
        end = Revision(epoch=epoch, position=int(position), link=Link(link))
        return PutBack(end=end, absent=int(absent))

    def rebuild(self) -> int:
        epoch = self._writing.expected()
        missing = self.restore(lost).absent if (lost := self._lost_generations()) else 0
        for kind, prefix in (("deny", keys.DENIALS), ("end", keys.ENDS)):
            missing += self._append_absent(epoch, kind, prefix)
        if lost_for_good := self.finish_rebuild(epoch):
            raise StoreDamagedError(
                f"`{keys.GENERATIONS}` has lost {lost_for_good} of the generations that were raised, and the "
                "log has their entries no more: what they revoked would be accepted again. Start while a "
                "process that knows them runs, or restore a backup: `identity restore FILE --replace`"
            )
        return missing

    def finish_rebuild(self, epoch: Epoch) -> int:
        """Clear the mark; returns how many generations are lost for good, with which it stands.

        Confirmed, and with it everything that was written before on this server.
        """
        found = [keys.HEAD, keys.LOG, keys.GENERATIONS]
        return int(self._connection.run("finish_rebuild", found, [epoch], durable=True))

    def _append_absent(self, epoch: Epoch, kind: str, prefix: str) -> int:
        """Append what the keys of a prefix hold and the log lacks; returns how many there were."""
        found: list[int] = []

        def steps(run: RunScript) -> None:
            cursor = "0"
            while True:
                words: list[str | int] = [epoch, self._writing.now(), kind, prefix, cursor, _SCANNED]
                words.append(secrets.token_hex(16))
                cursor, appended = run("rebuild_facts", [keys.HEAD, keys.LOG], words)
                found.append(appended)
                if cursor == "0":
                    return

        self._connection.series(keys.HEAD, steps)
        return sum(found)

    def _lost_generations(self) -> Sequence[GenerationRaised]:
        """What entries have raised and the state does not hold."""
        raised, after = Revocations(), 0
        while True:
            entries = self._connection.command("XRANGE", keys.LOG, f"({after}-0", "+", "COUNT", _WALKED)
            # Most entries raise nothing, and a million of them need not be decoded.
            for entry in entries_of([e for e in entries if any(_RAISED in word for word in e[1])]):
                raised.apply(entry.change, entry.link)
            if len(entries) < _WALKED:
                break
            after = int(entries[-1][0].removesuffix("-0"))
        held = self.generations()
        return [
            GenerationRaised(principal=principal, number=generation.number, origin=generation.link)
            for principal, generation in raised.generations.items()
            if generation != held.get(principal)
            and generation.number >= held.get(principal, NEVER_RAISED).number
        ]

    def trim(self, position: int, keep: Sequence[Fact] = ()) -> int:
        words = [word for fact in keep for word in restore_words(fact)]
        floor = self._connection.run(
            "trim_log",
            [keys.HEAD, keys.LOG, keys.GENERATIONS],
            [self._writing.expected(), self._writing.now(), position, keys.DENIALS, keys.ENDS, *words],
        )
        return int(floor)
