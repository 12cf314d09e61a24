"""Conversion between domain values and the arguments and answers of scripts, without a connection.

Times are Unix seconds as decimal text in both directions: Lua would round a number when it prints it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

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
from identity_service.storage.change_codec import decode_change, encode_change
from identity_service.storage.codec import moment, reading, seconds
from identity_service.storage.redis import keyspace as keys


def time_text(time: datetime) -> str:
    """Return a time as scripts take it: Unix seconds as decimal text."""
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
    """Return a fact as `repair_facts.lua` and `trim_log.lua` take it."""
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

    Without checks: a process that starts calls this for every entry of the log.
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
