"""Calls of scripts: their arguments and answers as domain values, and running those that change a store.

Times are Unix seconds as decimal text in both directions: Lua would round a number when it prints it. The
writer owns the epoch that this process follows. A part of the store names only the keys and arguments of its
own, so that no mutation can leave out the epoch, or write without a confirmation by accident.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from identity_service.domain.audit import AuditEvent, RingSizes
from identity_service.domain.ids import Epoch, Link, PrincipalId, SessionId, TokenId, new_link
from identity_service.domain.log import (
    Appended,
    Change,
    Fact,
    Generation,
    GenerationRaised,
    Head,
    Heartbeat,
    LogEntry,
    Marks,
    Revision,
    SessionEnded,
    TokenDenied,
)
from identity_service.domain.ports import Clock
from identity_service.storage.codec import (
    decode_change,
    encode_change,
    encode_event,
    moment,
    reading,
    seconds,
)
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.client.connection import Connection


class Writer:
    """A runner of mutating scripts under the epoch that this process follows. Thread-safe."""

    def __init__(self, connection: Connection, clock: Clock | None, keep: RingSizes) -> None:
        """Begin with an epoch that no store has, so that nothing is written before an epoch is adopted.

        Args:
            connection: runs the scripts.
            clock: None = the scripts use the clock of the server.
            keep: the number of audit events that are kept.
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
        """Return the time in Unix seconds, as scripts take it; empty = they use the server's clock."""
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


def time_text(time: datetime) -> str:
    """Return a time in the form that scripts take: Unix seconds as decimal text."""
    return repr(seconds(time))


def time_of(text: str) -> datetime:
    """Return the time of Unix seconds as decimal text. Raises ValueError if the text is not a number."""
    return moment(float(text))


# The JSON of these changes up to the last members, whose values only the script knows; it completes the JSON.


def denial_prefix(token_id: TokenId, until: datetime) -> str:
    """Return the JSON of a denial up to the value of `until`, its last member."""
    return _up_to('"until":', encode_change(TokenDenied(token_id=token_id, deny_until=until)))


def end_prefix(session_id: SessionId, until: datetime) -> str:
    """Return the JSON of an ended session up to the value of `until`, after which `end` follows."""
    change = SessionEnded(session_id=session_id, deny_until=until, end_until=until)
    return _up_to('"until":', encode_change(change))


def raise_prefix(principal: str, origin: Link | None = None) -> str:
    """Return the JSON of a raised generation up to the value of `number`, its last member."""
    change = GenerationRaised(principal=PrincipalId(principal), number=0, origin=origin)
    return _up_to('"number":', encode_change(change))


def restore_words(fact: Fact) -> tuple[str, ...]:
    """Return a fact in the form that `repair_facts.lua` and `trim_log.lua` take."""
    match fact:
        case TokenDenied():
            until = time_text(fact.deny_until)
            prefix = denial_prefix(fact.token_id, fact.deny_until)
            return "deny", fact.token_id, until, "", prefix, new_link()
        case SessionEnded():
            times = time_text(fact.deny_until), time_text(fact.end_until)
            prefix = end_prefix(fact.session_id, fact.deny_until)
            return "end", fact.session_id, *times, prefix, new_link()
        case GenerationRaised():
            origin = fact.origin or new_link()
            prefixes = raise_prefix(fact.principal, origin), new_link(), raise_prefix(fact.principal)
            return "gen", fact.principal, str(fact.number), origin, *prefixes


def _up_to(member: str, text: str) -> str:
    before, found, _ = text.rpartition(member)
    return before + found


def head_of(
    epoch: str,
    position: str,
    link: str,
    now: str,
    floor: str,
    retention: str,
    whole: int,
    complete: int,
    lifetime: str,
    session: str,
    leeway: str,
    time: str,
    latest: str,
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
            marks=Marks(
                lifetime=timedelta(seconds=float(lifetime)),
                session=timedelta(seconds=float(session)),
                leeway=timedelta(seconds=float(leeway)),
                time=time_of(time) if time else None,
                latest=time_of(latest) if latest else None,
            ),
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


def generations_of(found: Mapping[str, str | None]) -> dict[PrincipalId, Generation]:
    """Return generations from their text, without those that were never raised. Raises StoreDamagedError."""
    with reading(keys.GENERATIONS):
        return {PrincipalId(p): Generation.parse(text) for p, text in found.items() if text}


def appended(
    epoch: Epoch, position: str, *changes: tuple[Change, Link], link: Link | None = None
) -> Appended:
    """Return the result of a write under `epoch`: the changes that its script appended, or found in the log.

    `link` is the link of the entry at the position; None = that of the last change.
    """
    there = changes[-1][1] if link is None else link
    return Appended(revision=Revision(epoch=epoch, position=int(position), link=there), changes=changes)
