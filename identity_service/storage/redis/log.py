"""The change log on Redis: reading it, heartbeats, repair, rebuild and trimming.

This module does not know records and sessions.
"""

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
    RepairResult,
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
"""The text that version 0.1.0 finds in place of its head: not a hash, so that each of its commands fails."""
_HEARTBEAT_SECONDS: Final = 3600
"""How long the last heartbeat of a process is kept."""
_SCAN_STEP: Final = 1000
"""Keys that one step of SCAN looks at, so that it blocks the server for a few milliseconds at most."""
_LOG_STEP: Final = 1000
"""Entries of the log that are read at once in the search for lost generations."""
_RAISED: Final = '"k":"gen"'
"""A part of the JSON of every raised generation, and of no other change."""


class RedisLog:
    """The change log of a store on Redis, implementing the port `ChangeLog`."""

    def __init__(self, connection: Connection, writing: Writing) -> None:
        self._connection = connection
        self._writing = writing

    def head(self) -> Head:
        """Return the end of the log now, and whether log and state hold what the head counts."""
        return self.read(0, 0).head

    def read(self, after: int, limit: int) -> LogPage:
        """Return at most `limit` entries after a position with the head, both of the same moment."""
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
        """Return at most `limit` entries after a position, without the head."""
        # Not by a script, which would convert every entry to Lua values and back.
        found = self._connection.command("XRANGE", keys.LOG, f"({after}-0", "+", "COUNT", limit)
        return entries_of(found)

    def wait(self, after: int, timeout: float) -> None:
        """Block until there is an entry after a position, or until `timeout` seconds have passed."""
        self._connection.wait(keys.LOG, min(after, _MAX_POSITION), timeout)

    def heartbeat(self, process: str, retention: timedelta, marks: Marks, status: str) -> Head:
        """Write a durable heartbeat, raise retention and marks in the same step, and return the head."""
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
        """Return the last heartbeat of each process within the last hour, the latest first."""
        words: list[str | int] = [self._writing.now(), keys.heartbeat(""), _HEARTBEAT_SECONDS]
        return heartbeats_of(self._connection.run("list_heartbeats", [keys.HEARTBEATS], words))

    def upgrade(self) -> bool:
        """Upgrade a store of version 0.1.0; return whether it was upgraded.

        Raises ConfigurationError if a process of that version still runs.
        """
        if not self._is_old():
            return False
        # The heartbeats first, then the version again: a process of this version writes heartbeats only after
        # the store was upgraded, so heartbeats in a store that is still old come from processes of version
        # 0.1.0.
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
                cursor, *found = run("scan_texts", [keys.HEAD], [cursor, prefix, _SCAN_STEP])
                heartbeats.update(zip(found[::2], found[1::2], strict=True))
                if cursor == "0":
                    return

        self._connection.series(keys.HEAD, steps)
        return {key.removeprefix(prefix): value for key, value in heartbeats.items()}

    def generations(self) -> Mapping[PrincipalId, Generation]:
        """Return the generation of every principal that was ever raised."""
        flat: list[str] = self._connection.command("HGETALL", keys.GENERATIONS)
        return generations_of(dict(zip(flat[::2], flat[1::2], strict=True)))

    def adopt(self, epoch: Epoch) -> None:
        """Expect this epoch in every write from now on."""
        self._writing.adopt(epoch)

    def renew(self, found: Epoch | None, epoch: Epoch) -> Epoch:
        """Give the log a new epoch if it still has `found`; return the epoch that it has now."""
        # Repeatable: the second call finds the epoch that the first one has set.
        now_has = self._connection.run(
            "renew_epoch",
            [keys.HEAD, keys.LOG, keys.GENERATIONS, keys.OLD_HEAD],
            [found or "", epoch, new_link(), FENCE],
            durable=True,
        )
        return Epoch(now_has)

    def repair(self, facts: Sequence[Fact]) -> RepairResult:
        """Append those of the facts that the store lacks, in one step."""
        epoch = self._writing.expected()
        words = [word for fact in facts for word in restore_words(fact)]
        position, link, absent = self._connection.run(
            "repair_facts",
            [keys.HEAD, keys.LOG, keys.GENERATIONS],
            [epoch, self._writing.now(), keys.DENIALS, keys.ENDS, *words],
            durable=True,
        )
        end = Revision(epoch=epoch, position=int(position), link=Link(link))
        return RepairResult(end=end, absent=int(absent))

    def rebuild(self) -> int:
        """Complete log and state from each other, clear the mark, and return how many facts were missing."""
        epoch = self._writing.expected()
        missing = self.repair(lost).absent if (lost := self._lost_generations()) else 0
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
        """Clear the mark, unless generations are lost for good; return how many are.

        The confirmation of this write also covers everything that was written before on this server.
        """
        found = [keys.HEAD, keys.LOG, keys.GENERATIONS]
        return int(self._connection.run("finish_rebuild", found, [epoch], durable=True))

    def _append_absent(self, epoch: Epoch, kind: str, prefix: str) -> int:
        """Append the facts that the keys of a prefix hold and the log lacks; return how many they were."""
        found: list[int] = []

        def steps(run: RunScript) -> None:
            cursor = "0"
            while True:
                words: list[str | int] = [epoch, self._writing.now(), kind, prefix, cursor, _SCAN_STEP]
                words.append(secrets.token_hex(16))
                cursor, appended = run("rebuild_facts", [keys.HEAD, keys.LOG], words)
                found.append(appended)
                if cursor == "0":
                    return

        self._connection.series(keys.HEAD, steps)
        return sum(found)

    def _lost_generations(self) -> Sequence[GenerationRaised]:
        """Return the generations that entries of the log have raised and that the state does not hold."""
        raised, after = Revocations(), 0
        while True:
            entries = self._connection.command("XRANGE", keys.LOG, f"({after}-0", "+", "COUNT", _LOG_STEP)
            # Only entries that raise a generation are decoded: most of up to a million entries do not.
            for entry in entries_of([e for e in entries if any(_RAISED in word for word in e[1])]):
                raised.apply(entry.change, entry.link)
            if len(entries) < _LOG_STEP:
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
        """Remove entries up to a position if they are old enough, append `keep` again, return the floor."""
        words = [word for fact in keep for word in restore_words(fact)]
        floor = self._connection.run(
            "trim_log",
            [keys.HEAD, keys.LOG, keys.GENERATIONS],
            [self._writing.expected(), self._writing.now(), position, keys.DENIALS, keys.ENDS, *words],
        )
        return int(floor)
