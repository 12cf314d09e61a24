"""Keeps sessions as rows that are replaced by compare-and-set, and reads what a sign-in needs."""

import math
from collections.abc import Sequence
from typing import Final

from identity_service.domain.audit import AuditEvent
from identity_service.domain.errors import AlreadyExistsError
from identity_service.domain.ids import EVERYONE, PrincipalId, SessionId
from identity_service.domain.log import Generation
from identity_service.domain.principals import Client, User
from identity_service.domain.revocations import first_raised
from identity_service.domain.sessions import PlainRotation, Session, SessionState, SignIn
from identity_service.storage.codec import decode_session, encode_session, reading, seconds
from identity_service.storage.sqlite import facts, records
from identity_service.storage.sqlite.transactions import Transactions

_ALIVE: Final = (
    "expire_time > :now AND NOT sessions.ended AND (expire_time, id) < (:end, :id) AND NOT EXISTS"
    " (SELECT 1 FROM ended WHERE ended.id = sessions.id AND ended.end_until > :now)"
)
_LIVE: Final = (
    f"SELECT value, expire_time, id FROM sessions WHERE subject = :owner AND {_ALIVE}"  # noqa: S608  # text from above
    " UNION ALL SELECT value, expire_time, id FROM sessions"
    f" WHERE client_id = :owner AND subject <> :owner AND {_ALIVE} ORDER BY expire_time DESC, id DESC"
)
"""The query for live sessions, which merges two indexes as they are read. With OR, SQLite would sort all
sessions of a client for one page."""


class SqliteSessions:
    """The sign-ins and sessions of a store in one SQLite file; implements the port `SessionStore`."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def read_sign_in(self, username: str, client_id: PrincipalId) -> SignIn:
        """Return the data for a sign-in with this username, read in one snapshot."""
        with self._transactions.reading() as connection:
            user = records.find_user(connection, username)
            client = records.get(connection, Client, client_id)
            principals = [EVERYONE, client_id, *((user.record.user_id,) if user is not None else ())]
            return SignIn(
                generations=facts.generations_of(connection, principals),
                user=user.record if user is not None else None,
                client=client.record if client is not None else None,
                time=self._transactions.now(),
            )

    def create(self, session: Session, *, audit: AuditEvent | None = None) -> None:
        """Insert a session, with the audit event in the same transaction.

        Raises AlreadyExistsError if its id is taken.
        """
        with self._transactions.mutation(audit) as mutation:
            cursor = mutation.connection.execute(
                "INSERT INTO sessions (id, version, expire_time, subject, client_id, value)"
                " VALUES (?, 1, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    session.session_id,
                    seconds(session.expire_time),
                    session.subject,
                    session.client_id,
                    encode_session(session),
                ),
            )
            if cursor.rowcount == 0:
                raise AlreadyExistsError("a session with this id exists already")

    def read(
        self,
        session_id: SessionId,
        *,
        rotation: PlainRotation | None = None,  # noqa: ARG002  # reading first costs no round trip here
    ) -> SessionState | None:
        """Return a session and everything that may forbid its refresh, in one snapshot; None = no session."""
        with self._transactions.reading() as connection:
            now = self._transactions.now()
            row = connection.execute(
                "SELECT version, value, ended FROM sessions WHERE id = ? AND expire_time > ?",
                (session_id, seconds(now)),
            ).fetchone()
            if row is None:
                return None
            version, session = row[0], _decoded(row[1])
            user = records.get(connection, User, session.subject)
            client = records.get(connection, Client, session.client_id)
            return SessionState(
                session=session,
                version=version,
                ended=bool(row[2]) or facts.has_ended(connection, session_id, now),
                generations=facts.generations_of(connection, (EVERYONE, session.subject, session.client_id)),
                user=user.record if user is not None else None,
                client=client.record if client is not None else None,
                time=now,
            )

    def replace(self, session: Session, *, expected_version: int) -> bool:
        """Replace a live session if it has the expected version; returns whether it was replaced."""
        with self._transactions.mutation() as mutation:
            cursor = mutation.connection.execute(
                "UPDATE sessions SET version = version + 1, expire_time = ?, value = ?"
                " WHERE id = ? AND version = ? AND expire_time > ? AND NOT ended",
                (
                    seconds(session.expire_time),
                    encode_session(session),
                    session.session_id,
                    expected_version,
                    seconds(mutation.now),
                ),
            )
            return cursor.rowcount == 1

    def list_of(self, owner: PrincipalId, *, before: str = "", limit: int = 100) -> Sequence[Session]:
        """Return live sessions of a subject or client, the one that ends last first.

        That is the order of the sign-ins, newest first, unless `session_lifetime` was changed.
        """
        with self._transactions.reading() as connection:
            place: tuple[float, str] | None = (math.inf, "")
            if before:
                found_at = "SELECT expire_time, id FROM sessions WHERE id = ?"
                place = connection.execute(found_at, (before,)).fetchone()
            if place is None:
                return []
            now = seconds(self._transactions.now())
            words = {"owner": owner, "now": now, "end": place[0], "id": place[1]}
            found: list[Session] = []
            table: dict[PrincipalId, Generation] = {}
            asked: frozenset[PrincipalId] = frozenset()
            for value, *_ in connection.execute(_LIVE, words):
                session = _decoded(value)
                table |= facts.generations_of(connection, sorted(session.principals - asked))
                asked |= session.principals
                if first_raised(table, session.principals, session.generations) is None:
                    found.append(session)
                    if len(found) == limit:
                        break
            return found


def _decoded(value: str) -> Session:
    """Return the session of a row. Raises StoreDamagedError."""
    with reading("sessions"):
        return decode_session(value)
