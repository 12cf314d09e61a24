"""The change log on Redis: reading it, heartbeats, repair, rebuild and trimming.

This module does not know records and sessions.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from identity_service.domain.change_log import NO_MARKS, STATUS_LENGTH
from identity_service.domain.ids import Epoch, Link, PrincipalId, new_link
from identity_service.domain.log import (
    Change,
    Fact,
    Generation,
    Head,
    Heartbeat,
    LogEntry,
    LogPage,
    Marks,
    RepairResult,
    Revision,
)
from identity_service.storage.codec import decode_change, decode_marks, encode_marks, reading
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.client.connection import RedisConnection
from identity_service.storage.redis.facts import restore_words
from identity_service.storage.redis.keyspace import Writer, generations_of, seconds_text, time_of
from identity_service.storage.whole_log import lost_generations, require_none_lost

_MAX_POSITION: Final = 2**63 - 1
_HEARTBEAT_SECONDS: Final = 3600
"""The number of seconds for which the last heartbeat of a process is kept."""
_LOG_STEP: Final = 1000
"""The number of entries of the log that are read at once in the search for lost generations."""
_RAISED: Final = '"k":"gen"'
"""A part of the JSON of every raised generation, and of no other change."""


class RedisLog:
    """The change log of a store on Redis, implementing the port `ChangeLog`."""

    def __init__(self, connection: RedisConnection, writer: Writer) -> None:
        self._connection = connection
        self._writer = writer

    def head(self) -> Head:
        """Return the end of the log now, after counting whether log and state are complete (`Head.whole`)."""
        return self.read(0, 0).head

    def read(self, after: int, limit: int) -> LogPage:
        """Return at most `limit` entries after a position with the head, both of the same moment."""
        head, entries = self._connection.run(
            "read_log",
            [keys.HEAD, keys.LOG, keys.GENERATIONS],
            [self._writer.now(), min(after, _MAX_POSITION), limit],
        )
        return LogPage(entries=entries_of(entries), head=head_of(*head))

    def read_entries(self, after: int, limit: int) -> tuple[LogEntry, ...]:
        """Return at most `limit` entries after a position, without the head."""
        # Not by a script, which would convert every entry to Lua values and back.
        found = self._connection.command("XRANGE", keys.LOG, f"({after}-0", "+", "COUNT", limit)
        return entries_of(found)

    def wait(self, after: int, timeout: float) -> None:
        """Block until there is an entry after a position, or until `timeout` seconds have passed."""
        self._connection.wait(keys.LOG, min(after, _MAX_POSITION), timeout)

    def heartbeat(
        self, process: str, retention: timedelta = timedelta(0), *, marks: Marks = NO_MARKS, status: str = ""
    ) -> Head:
        """Write a durable heartbeat, raise retention and marks in the same step, and return the head."""
        # Without the latest time, which the script takes from the store's clock.
        grows = (retention.total_seconds(), *encode_marks(marks)[:-1])
        head = self._connection.run(
            "heartbeat",
            [keys.HEAD, keys.heartbeat(process), keys.LOG, keys.HEARTBEATS, keys.GENERATIONS],
            [
                self._writer.now(),
                _HEARTBEAT_SECONDS,
                process,
                status[:STATUS_LENGTH],
                *map(seconds_text, grows),
            ],
            durable=True,
        )
        return head_of(*head)

    def heartbeats(self) -> Sequence[Heartbeat]:
        """Return the last heartbeat of each process within the last hour, the latest first."""
        words: list[str | int] = [self._writer.now(), keys.heartbeat(""), _HEARTBEAT_SECONDS]
        return heartbeats_of(self._connection.run("list_heartbeats", [keys.HEARTBEATS], words))

    def generations(self) -> Mapping[PrincipalId, Generation]:
        """Return the generation of every principal that was ever raised."""
        flat: list[str] = self._connection.command("HGETALL", keys.GENERATIONS)
        return generations_of(dict(zip(flat[::2], flat[1::2], strict=True)))

    def adopt(self, epoch: Epoch) -> None:
        """Expect this epoch in every write from now on."""
        self._writer.adopt(epoch)

    def renew(self, found: Epoch | None, epoch: Epoch) -> Epoch:
        """Give the log a new epoch if it still has `found`; return the epoch that it has now."""
        # Repeatable: the second call finds the epoch that the first one has set.
        now_has = self._connection.run(
            "renew_epoch",
            [keys.HEAD, keys.LOG, keys.GENERATIONS, keys.OLD_HEAD],
            [found or "", epoch, new_link(), keys.OLD_HEAD_TEXT],
            durable=True,
        )
        return Epoch(now_has)

    def repair(self, facts: Sequence[Fact]) -> RepairResult:
        """Append those of the facts that the store lacks, in one step."""
        words = [word for fact in facts for word in restore_words(fact)]
        epoch, (position, link, absent) = self._writer.mutate(
            "repair_facts", words=[keys.DENIALS, keys.ENDS, *words]
        )
        end = Revision(epoch=epoch, position=int(position), link=Link(link))
        return RepairResult(end=end, absent=int(absent))

    def rebuild(self) -> int:
        """Complete log and state from each other, clear the mark, and return how many facts were missing."""
        # One epoch for all steps: another thread may adopt a new one meanwhile, whose log stays incomplete.
        epoch = self._writer.expected()
        lost = lost_generations(self._raises(), self.generations())
        missing = self.repair(lost).absent if lost else 0
        with self._connection.servers()[0] as server:
            for kind, prefix in (("deny", keys.DENIALS), ("end", keys.ENDS)):
                words = (epoch, self._writer.now(), kind, secrets.token_hex(16))
                for (appended,) in server.scan("rebuild_facts", [keys.HEAD, keys.LOG], prefix, *words):
                    missing += int(appended)
        require_none_lost(f"`{keys.GENERATIONS}`", self.finish_rebuild(epoch))
        return missing

    def finish_rebuild(self, epoch: Epoch) -> int:
        """Clear the mark, unless generations are lost for good; return how many are.

        The confirmation of this write also covers everything that was written before on this server.
        """
        return int(self._writer.mutate("finish_rebuild", epoch=epoch)[1])

    def _raises(self) -> Iterator[tuple[Change, Link]]:
        """Yield the raised generations of the log, each with the link of its entry."""
        after = 0
        while True:
            entries = self._connection.command("XRANGE", keys.LOG, f"({after}-0", "+", "COUNT", _LOG_STEP)
            # Only entries that raise a generation are decoded: most of up to a million entries do not.
            for entry in entries_of([e for e in entries if any(_RAISED in word for word in e[1])]):
                yield entry.change, entry.link
            if len(entries) < _LOG_STEP:
                return
            after = int(entries[-1][0].removesuffix("-0"))

    def trim(self, position: int, keep: Sequence[Fact] = ()) -> int:
        """Remove entries up to a position if they are old enough, append `keep` again, return the floor."""
        words = [word for fact in keep for word in restore_words(fact)]
        _, floor = self._writer.mutate(
            "trim_log", words=[position, keys.DENIALS, keys.ENDS, *words], durable=False
        )
        return int(floor)


def head_of(
    epoch: str,
    position: str,
    link: str,
    now: str,
    floor: str,
    retention: str,
    whole: int,
    complete: int,
    *marks: str,
) -> Head:
    """Return the head from the answer of the Lua function `head_reply`. Raises StoreDamagedError."""
    with reading(keys.HEAD):
        return Head(
            epoch=Epoch(epoch),
            position=int(position),
            link=Link(link),
            time=time_of(now),
            floor=int(floor),
            retention=timedelta(seconds=float(retention)),
            whole=bool(whole),
            complete=bool(complete),
            marks=decode_marks(*(float(text) if text else None for text in marks)),
        )


def heartbeats_of(found: Sequence[str]) -> tuple[Heartbeat, ...]:
    """Return the heartbeats from a flat list in which each process is followed by its `<time> <status>`."""
    return tuple(
        Heartbeat(process=process, time=time_of(time), status=status)
        for process, text in zip(found[::2], found[1::2], strict=True)
        for time, _, status in [text.partition(" ")]
    )


def entry_of(id_: str, fields: Sequence[Any]) -> LogEntry:
    """Return a log entry from its id and fields.

    It makes no checks, since a process that starts calls it for every entry of the log.
    """
    _, link, _, previous, _, _, _, change = fields  # in the order that `append` writes them
    return LogEntry(int(id_.removesuffix("-0")), link, previous, decode_change(change))


def entries_of(found: Sequence[tuple[str, Sequence[Any]]]) -> tuple[LogEntry, ...]:
    """Return log entries from an answer of XRANGE.

    Raises StoreDamagedError, which names the first invalid entry.
    """
    try:
        return tuple([entry_of(id_, fields) for id_, fields in found])
    except Exception:
        for id_, fields in found:
            with reading(f"{keys.LOG} entry {id_}", "is not one that this version knows"):
                entry_of(id_, fields)
        raise
