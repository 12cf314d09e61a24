"""Revocations: the state that shows which facts the log holds already, and when a row may be deleted.

Every function runs inside a transaction of the caller. Facts only grow. Rows that serve only to recognise a
repetition are deleted a few at a time once their time is over.
"""

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from identity_service.domain.audit import AuditEvent
from identity_service.domain.ids import Link, PrincipalId, SessionId, TokenId
from identity_service.domain.log import (
    Appended,
    Fact,
    Generation,
    GenerationRaised,
    SessionEnded,
    TokenDenied,
)
from identity_service.storage.codec import moment, reading, seconds
from identity_service.storage.sqlite.transactions import Mutation, Transactions

REQUEST_MEMORY: Final = timedelta(hours=24)
"""The time for which the request id of a raise is remembered."""
A_DAY: Final = timedelta(days=1)
"""The time after its logical end at which a row is deleted. Decisions compare times and never rely on a row
being gone, so a clock that was hours ahead has deleted nothing that still counts."""
_EXPIRING: Final = ("denied", "ended", "requests", "sessions", "used")
_FORGET_PER_WRITE: Final = 2
"""The number of rows that are deleted for each new one, so that no table grows beyond its live rows."""
_FORGET_PER_HEARTBEAT: Final = 100


class SqliteFacts:
    """The facts of a store in one SQLite file; implements the port `FactStore`."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def deny_token(
        self, token_id: TokenId, deny_until: datetime, *, audit: AuditEvent | None = None
    ) -> Appended:
        """Insert or extend a denial."""
        with self._transactions.mutation(audit) as mutation:
            return deny_token(mutation, token_id, deny_until)

    def end_session(
        self,
        session_id: SessionId,
        *,
        deny_until: datetime,
        end_until: datetime,
        audit: AuditEvent | None = None,
    ) -> Appended:
        """Insert or extend the end of a session, and mark its row."""
        with self._transactions.mutation(audit) as mutation:
            return end_session(mutation, session_id, deny_until, end_until)

    def raise_generation(
        self,
        principal: PrincipalId,
        *,
        above: int,
        request_id: str | None,
        link: Link | None = None,
        audit: AuditEvent | None = None,
    ) -> Appended:
        """Raise the generation of a principal, unless this request has done so already."""
        with self._transactions.mutation(audit) as mutation:
            if request_id is None:
                raise_to_next(mutation, principal, above, link)
                return mutation.appended()
            row = mutation.connection.execute(
                "SELECT number, position, link FROM requests"
                " WHERE principal = ? AND id = ? AND expire_time > ?",
                (principal, request_id, seconds(mutation.now)),
            ).fetchone()
            if row is not None:
                number, *place = row
                return mutation.held(GenerationRaised(principal=principal, number=number), *place)
            raised = raise_to_next(mutation, principal, above, link)
            mutation.connection.execute(
                "INSERT OR REPLACE INTO requests (principal, id, number, expire_time, position, link)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (principal, request_id, raised[0], seconds(mutation.now + REQUEST_MEMORY), *raised[1:]),
            )
            forget_some(mutation.connection, "requests", mutation.now)
            return mutation.appended()


class SqliteSingleUse:
    """The single-use keys of a store in one SQLite file; implements the port `SingleUse`."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def consume(self, key: str, until: datetime) -> bool:
        """Use a key up until `until`; returns False if it is used up already."""
        with self._transactions.writing() as connection:
            now = self._transactions.now()
            connection.execute("DELETE FROM used WHERE id = ? AND expire_time <= ?", (key, seconds(now)))
            cursor = connection.execute(
                "INSERT INTO used (id, expire_time) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (key, seconds(until)),
            )
            forget_some(connection, "used", now)
            return cursor.rowcount == 1


def deny_token(mutation: Mutation, token_id: TokenId, deny_until: datetime) -> Appended:
    """Insert or extend a denial; one that lasts as long already is returned as it is."""
    row = mutation.connection.execute(
        "SELECT deny_until, position, link FROM denied WHERE id = ?", (token_id,)
    ).fetchone()
    if row is not None:
        held = denial_of(token_id, row[0])
        if held.deny_until >= deny_until and mutation.stands(row[1], row[2]):
            return mutation.held(held, row[1], row[2])
        deny_until = max(held.deny_until, deny_until)  # the entry is gone; a denial is never shortened
    position, link = mutation.append(TokenDenied(token_id=token_id, deny_until=deny_until))
    until = seconds(deny_until)
    mutation.connection.execute(
        "INSERT OR REPLACE INTO denied (id, deny_until, expire_time, position, link) VALUES (?, ?, ?, ?, ?)",
        (token_id, until, until, position, link),
    )
    forget_some(mutation.connection, "denied", mutation.now)
    return mutation.appended()


def end_session(
    mutation: Mutation, session_id: SessionId, deny_until: datetime, end_until: datetime
) -> Appended:
    """Insert or extend the end of a session; each of its two times only grows.

    The session stays ended at least until its own end.
    """
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
        held = end_of(session_id, row[0], row[1])
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


def denial_of(id_: str, deny_until: float) -> TokenDenied:
    """Return the denial in these columns of a row of `denied`."""
    return TokenDenied(token_id=TokenId(id_), deny_until=moment(deny_until))


def end_of(id_: str, deny_until: float, end_until: float) -> SessionEnded:
    """Return the end of a session in these columns of a row of `ended`."""
    return SessionEnded(session_id=SessionId(id_), deny_until=moment(deny_until), end_until=moment(end_until))


def has_ended(connection: sqlite3.Connection, session_id: SessionId, now: datetime) -> bool:
    """Return whether the session was ended, with an `end_until` that is later than `now`."""
    row = connection.execute(
        "SELECT 1 FROM ended WHERE id = ? AND end_until > ?", (session_id, seconds(now))
    ).fetchone()
    return row is not None


def raise_to_next(
    mutation: Mutation, principal: PrincipalId, above: int, link: Link | None = None
) -> tuple[int, int, Link]:
    """Raise to max(stored number, `above`) + 1; returns number, position and link of the entry."""
    row = mutation.connection.execute(
        "SELECT number FROM generations WHERE principal = ?", (principal,)
    ).fetchone()
    number = max(row[0] if row is not None else 0, above) + 1
    position, link = mutation.append(GenerationRaised(principal=principal, number=number), link)
    # A caller that names a number knows that the principal was raised, and counted, before. If there is no
    # row, it was lost.
    _hold_generation(mutation, principal, number, link, is_counted=above > 0)
    return number, position, link


def restore(mutation: Mutation, fact: Fact) -> None:
    """Append a fact if its state is missing, or its entry is no longer in the log."""
    match fact:
        case TokenDenied():
            if fact.deny_until + A_DAY > mutation.now:  # a denial that ended a day ago is over by any clock
                deny_token(mutation, fact.token_id, fact.deny_until)
        case SessionEnded():
            end_session(mutation, fact.session_id, fact.deny_until, fact.end_until)
        case GenerationRaised():
            _restore_generation(mutation, fact)


def _restore_generation(mutation: Mutation, fact: GenerationRaised) -> None:
    """Append a raise that the state lacks; if two histories differ, raise above both."""
    known = generations_of(mutation.connection, [fact.principal]).get(fact.principal)
    if known is None:
        _, link = mutation.append(fact)
        _hold_generation(mutation, fact.principal, fact.number, fact.origin or link)
    elif fact.number > known.number or (fact.number == known.number and fact.origin != known.link):
        # Two histories raised it, and each may have revoked tokens that were issued in the other. Neither
        # number may win, so that tokens issued under either are refused.
        raise_to_next(mutation, fact.principal, fact.number)


def _hold_generation(
    mutation: Mutation, principal: PrincipalId, number: int, link: Link, *, is_counted: bool = False
) -> None:
    """Write the generation, and count a principal that was never raised before.

    While the log is incomplete nothing is counted: the rebuild counts anew. Counting a principal twice would
    make every start fail, because the count would exceed the generations in the table. Not counting one costs
    only a new epoch.
    """
    connection = mutation.connection
    if not is_counted and not generations_of(connection, [principal]):
        connection.execute("UPDATE log_head SET raised = raised + 1 WHERE complete")
    connection.execute(
        "INSERT OR REPLACE INTO generations (principal, number, link) VALUES (?, ?, ?)",
        (principal, number, link),
    )


def all_generations(connection: sqlite3.Connection) -> dict[PrincipalId, Generation]:
    """Return the generation of every principal that was ever raised."""
    rows = connection.execute("SELECT principal, number, link FROM generations")
    return {PrincipalId(p): _generation(p, number, link) for p, number, link in rows}


def _generation(principal: str, number: int, link: str) -> Generation:
    """Return the generation of a row. Raises StoreDamagedError, which names the principal."""
    with reading(f"generations, {principal}"):
        return Generation(number=int(number), link=Link(link))


def generations_of(
    connection: sqlite3.Connection, principals: Sequence[PrincipalId]
) -> dict[PrincipalId, Generation]:
    """Return the generations of these principals, except those that were never raised."""
    found: dict[PrincipalId, Generation] = {}
    for principal in principals:
        row = connection.execute(
            "SELECT number, link FROM generations WHERE principal = ?", (principal,)
        ).fetchone()
        if row is not None:
            found[principal] = _generation(principal, *row)
    return found


def forget_expired(connection: sqlite3.Connection, now: datetime) -> None:
    """Delete up to 100 rows of each table that expired a day ago; the log is left alone.

    Each heartbeat calls this, so that an idle store shrinks, too.
    """
    for table in _EXPIRING:
        _forget(connection, table, now, _FORGET_PER_HEARTBEAT)


def forget_some(connection: sqlite3.Connection, table: str, now: datetime) -> None:
    """Delete up to two rows that expired a day ago from a table that a row was just written to."""
    _forget(connection, table, now, _FORGET_PER_WRITE)


def _forget(connection: sqlite3.Connection, table: str, now: datetime, limit: int) -> None:
    """Delete up to `limit` rows of a table that expired a day ago, the oldest first."""
    key = "principal, id" if table == "requests" else "id"
    connection.execute(
        f"DELETE FROM {table} WHERE ({key}) IN"  # noqa: S608  # names from this file only
        f" (SELECT {key} FROM {table} WHERE expire_time <= ? ORDER BY expire_time LIMIT ?)",
        (seconds(now - A_DAY), limit),
    )
