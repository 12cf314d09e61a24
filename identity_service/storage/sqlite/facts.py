"""Revocations: the state that says which facts the log holds already, and when one may be forgotten.

Every function runs inside a transaction that somebody else owns. Facts only grow; what only serves
to recognise a repetition goes once its time is over, a few rows at a time.
"""

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from identity_service.domain.ids import Link, PrincipalId, SessionId, TokenId
from identity_service.domain.log import (
    Appended,
    Fact,
    Generation,
    GenerationRaised,
    SessionEnded,
    TokenDenied,
)
from identity_service.storage.codec import moment, seconds
from identity_service.storage.damage import reading
from identity_service.storage.sqlite.changes import Mutation

REQUEST_MEMORY: Final = timedelta(hours=24)
A_DAY: Final = timedelta(days=1)
"""Rows are deleted so long after their logical end. Decisions compare times and never rely on a row being
gone, so a clock that was ahead for hours has deleted nothing that still counts."""
_EXPIRING: Final = ("denied", "ended", "requests", "sessions", "used")
_FORGET_PER_WRITE: Final = 2
"""Two rows go for each that comes, so no table outgrows what is alive."""
_FORGET_PER_HEARTBEAT: Final = 100


def deny_token(mutation: Mutation, token_id: TokenId, deny_until: datetime) -> Appended:
    """Insert or extend; a denial that lasts as long or longer is only found."""
    until = seconds(deny_until)
    row = mutation.connection.execute(
        "SELECT deny_until, position, link FROM denied WHERE id = ?", (token_id,)
    ).fetchone()
    if row is not None and row[0] >= until and mutation.stands(row[1], row[2]):
        held, position, link = row
        return mutation.held(TokenDenied(token_id=token_id, deny_until=moment(held)), position, link)
    if row is not None:
        deny_until = max(deny_until, moment(row[0]))  # its entry is gone, and nothing may be shortened
        until = seconds(deny_until)
    position, link = mutation.append(TokenDenied(token_id=token_id, deny_until=deny_until))
    mutation.connection.execute(
        "INSERT OR REPLACE INTO denied (id, deny_until, expire_time, position, link) VALUES (?, ?, ?, ?, ?)",
        (token_id, until, until, position, link),
    )
    forget_some(mutation.connection, "denied", mutation.now)
    return mutation.appended()


def end_session(
    mutation: Mutation, session_id: SessionId, deny_until: datetime, end_until: datetime
) -> Appended:
    """Insert or extend; each of the two times grows by itself. Lasts at least until the session's own end."""
    mutation.connection.execute("UPDATE sessions SET ended = 1 WHERE id = ?", (session_id,))
    own = mutation.connection.execute(
        "SELECT expire_time FROM sessions WHERE id = ?", (session_id,)
    ).fetchone()
    if own is not None:
        end_until = max(end_until, moment(own[0]))
    row = mutation.connection.execute(
        "SELECT deny_until, end_until, position, link FROM ended WHERE id = ?", (session_id,)
    ).fetchone()
    if row is not None:
        held = SessionEnded(session_id=session_id, deny_until=moment(row[0]), end_until=moment(row[1]))
        longer = held.deny_until >= deny_until and held.end_until >= end_until
        if longer and mutation.stands(row[2], row[3]):
            return mutation.held(held, row[2], row[3])
        deny_until, end_until = max(held.deny_until, deny_until), max(held.end_until, end_until)
    ended = SessionEnded(session_id=session_id, deny_until=deny_until, end_until=end_until)
    position, link = mutation.append(ended)
    mutation.connection.execute(
        "INSERT OR REPLACE INTO ended (id, deny_until, end_until, expire_time, position, link)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            session_id,
            seconds(deny_until),
            seconds(end_until),
            seconds(max(deny_until, end_until)),
            position,
            link,
        ),
    )
    forget_some(mutation.connection, "ended", mutation.now)
    return mutation.appended()


def has_ended(connection: sqlite3.Connection, session_id: SessionId, now: datetime) -> bool:
    row = connection.execute(
        "SELECT 1 FROM ended WHERE id = ? AND end_until > ?", (session_id, seconds(now))
    ).fetchone()
    return row is not None


def raise_generation(
    mutation: Mutation, principal: PrincipalId, above: int, request_id: str | None, link: Link | None
) -> Appended:
    """Raise, unless this request has done so already."""
    now = seconds(mutation.now)
    if request_id is not None:
        row = mutation.connection.execute(
            "SELECT number, position, link FROM requests WHERE principal = ? AND id = ? AND expire_time > ?",
            (principal, request_id, now),
        ).fetchone()
        if row is not None:
            number, position, link = row
            return mutation.held(GenerationRaised(principal=principal, number=number), position, link)
    number, position, link = raise_to_next(mutation, principal, above, link)
    if request_id is not None:
        mutation.connection.execute(
            "INSERT OR REPLACE INTO requests (principal, id, number, expire_time, position, link)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (principal, request_id, number, seconds(mutation.now + REQUEST_MEMORY), position, link),
        )
        forget_some(mutation.connection, "requests", mutation.now)
    return mutation.appended()


def raise_to_next(
    mutation: Mutation, principal: PrincipalId, above: int, link: Link | None = None
) -> tuple[int, int, Link]:
    """Raise to max(the number here, `above`) + 1; returns number, position and link of the entry."""
    row = mutation.connection.execute(
        "SELECT number FROM generations WHERE principal = ?", (principal,)
    ).fetchone()
    number = max(row[0] if row is not None else 0, above) + 1
    position, link = mutation.append(GenerationRaised(principal=principal, number=number), link)
    # Who raises it above a number knows that it was raised, and counted, before: then its row was lost.
    _hold_generation(mutation, principal, number, link, is_counted=above > 0)
    return number, position, link


def restore(mutation: Mutation, fact: Fact) -> None:
    """Append a fact if it is absent: its state missing, or its entry gone from the log."""
    match fact:
        case TokenDenied():
            if fact.deny_until + A_DAY > mutation.now:  # what ended a day ago is over by any clock
                deny_token(mutation, fact.token_id, fact.deny_until)
        case SessionEnded():
            end_session(mutation, fact.session_id, fact.deny_until, fact.end_until)
        case GenerationRaised():
            _restore_generation(mutation, fact)


def _restore_generation(mutation: Mutation, fact: GenerationRaised) -> None:
    known = generations_of(mutation.connection, [fact.principal]).get(fact.principal)
    if known is None:
        _, link = mutation.append(fact)
        _hold_generation(mutation, fact.principal, fact.number, fact.origin or link)
    elif fact.number > known.number or (fact.number == known.number and fact.origin != known.link):
        # Two histories raised it, and each may have revoked what was issued in the other: neither number may
        # win, so that what was issued under either is refused.
        raise_to_next(mutation, fact.principal, fact.number)


def _hold_generation(
    mutation: Mutation, principal: PrincipalId, number: int, link: Link, *, is_counted: bool = False
) -> None:
    """A principal that was never raised is counted, unless the mark stands: then the rebuild counts.

    One that is counted twice would refuse every start for ever: more were raised than there are. One that is
    not counted costs a renewal.
    """
    connection = mutation.connection
    if not is_counted and not generations_of(connection, [principal]):
        connection.execute("UPDATE log_head SET raised = raised + 1 WHERE complete")
    connection.execute(
        "INSERT OR REPLACE INTO generations (principal, number, link) VALUES (?, ?, ?)",
        (principal, number, link),
    )


def all_generations(connection: sqlite3.Connection) -> dict[PrincipalId, Generation]:
    rows = connection.execute("SELECT principal, number, link FROM generations")
    return {PrincipalId(p): _generation(p, number, link) for p, number, link in rows}


def _generation(principal: str, number: int, link: str) -> Generation:
    with reading(f"generations, {principal}"):
        return Generation(number=int(number), link=Link(link))


def generations_of(
    connection: sqlite3.Connection, principals: Sequence[PrincipalId]
) -> dict[PrincipalId, Generation]:
    """Those of these principals, without the ones that were never raised."""
    found: dict[PrincipalId, Generation] = {}
    for principal in principals:
        row = connection.execute(
            "SELECT number, link FROM generations WHERE principal = ?", (principal,)
        ).fetchone()
        if row is not None:
            found[principal] = _generation(principal, *row)
    return found


def forget_expired(connection: sqlite3.Connection, now: datetime) -> None:
    """Delete some of what had its time a day ago, for a store that is otherwise idle; never the log."""
    for table in _EXPIRING:
        _forget(connection, table, now, _FORGET_PER_HEARTBEAT)


def forget_some(connection: sqlite3.Connection, table: str, now: datetime) -> None:
    """Make room for the row that was just written to a table of `_EXPIRING`."""
    _forget(connection, table, now, _FORGET_PER_WRITE)


def _forget(connection: sqlite3.Connection, table: str, now: datetime, limit: int) -> None:
    key = "principal, id" if table == "requests" else "id"
    connection.execute(
        f"DELETE FROM {table} WHERE ({key}) IN"  # noqa: S608  # names from this file only
        f" (SELECT {key} FROM {table} WHERE expire_time <= ? ORDER BY expire_time LIMIT ?)",
        (seconds(now - A_DAY), limit),
    )
