"""Sessions and sign-ins on Redis, without knowing the log, facts and changes of the directory.

The key of a session does not have the hash tag `{idn}`. On a single server the scripts read the session and
the keys of `{idn}` in one step; in a cluster they cannot, and
`docs/decisions/0006-sessions-are-spread-over-the-cluster.md` says why that does no harm.
"""

import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from identity_service.domain.audit import AuditEvent
from identity_service.domain.errors import StoreReplacedError, StoreUnavailableError
from identity_service.domain.ids import EVERYONE, PrincipalId, SessionId
from identity_service.domain.log import Generation, RecordKind
from identity_service.domain.principals import Client, User, normalize_username
from identity_service.domain.revocations import first_raised
from identity_service.domain.sessions import PlainRotation, Session, SessionState, SignIn
from identity_service.storage.codec import decode_session, encode_session, reading
from identity_service.storage.record_codec import decode_record
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.client.connection import RedisConnection
from identity_service.storage.redis.keyspace import Writer, generations_of, time_of, time_text

_USERS: Final = keys.record(RecordKind.USER, "")
_CLIENTS: Final = keys.record(RecordKind.CLIENT, "")
_PAGE: Final = 500
"""The number of sessions of a list that are read at once if the earlier ones were not live."""
_MAX_SCANNED: Final = 2000
"""The largest number of entries of a list that one script looks at, so that it does not block the server."""
_CACHE_SIZE: Final = 1024
"""The number of users, and of clients, that are kept decoded (LRU): most refreshes are of the same few
clients."""


class RedisSessions:
    """The sign-ins and sessions of a store on one server, implementing the port `SessionStore`."""

    def __init__(self, connection: RedisConnection, writer: Writer) -> None:
        self._connection = connection
        self._writer = writer
        # The JSON is the key of the cache, so that a record which has changed is decoded again.
        self._user: Callable[[str], User] = lru_cache(_CACHE_SIZE)(lambda text: decode_record(User, text))
        self._client: Callable[[str], Client] = lru_cache(_CACHE_SIZE)(
            lambda text: decode_record(Client, text)
        )

    def read_sign_in(self, username: str, client_id: PrincipalId) -> SignIn:
        """Return user, client, generations and time for a sign-in, read in one step."""
        now, user, client, of_all, of_client, of_user, user_id = self._connection.run(
            "sign_in",
            [keys.names(RecordKind.USER), keys.GENERATIONS, keys.record(RecordKind.CLIENT, client_id)],
            [self._writer.now(), normalize_username(username), _USERS, EVERYONE, client_id],
        )
        with reading(f"{_USERS}{user_id or ''} or {_CLIENTS}{client_id}"):
            return SignIn(
                generations=generations_of({EVERYONE: of_all, client_id: of_client, user_id or "": of_user}),
                user=self._user(user) if user else None,
                client=self._client(client) if client else None,
                time=time_of(now),
            )

    def create(self, session: Session, *, audit: AuditEvent | None = None) -> None:
        """Store a new session, then put it into the lists of its subject and its client.

        In this order: `list_of` removes a session from a list if it has no record.
        """
        home, epoch, audit_words = self._begin(audit)
        expire = time_text(session.expire_time)
        self._connection.run(
            "create_session",
            [keys.session(session.session_id), *home],
            [epoch, encode_session(session), expire, session.subject, session.client_id, *audit_words],
            repeatable=False,
            durable=True,
        )
        lists = {keys.sessions_of(session.subject), keys.sessions_of(session.client_id)}
        words: list[str | int] = [self._writer.now(), session.session_id, expire]
        self._connection.run("index_session", [keys.HEAD, *sorted(lists)], words)

    def list_of(self, owner: PrincipalId, *, before: str = "", limit: int = 100) -> Sequence[Session]:
        """Return the next page of live sessions of a subject or client, the one that ends last first.

        `before` is the id of the last session of the previous page, or empty. The order is that of the
        sign-ins, newest first, unless `session_lifetime` was changed. A page is short only at the end of the
        list: a caller that ends all sessions of a principal relies on that. Sessions that are over are
        removed from the list when they are found.
        """
        found: list[Session] = []
        list_key, last, end = keys.sessions_of(owner), before, ""
        if before:
            (known,) = self._connection.command("HMGET", keys.session(SessionId(before)), "expire")
            end = known or ""
        wanted, is_all = limit, False
        while len(found) < limit and not is_all:
            words: list[str | int] = [self._writer.now(), keys.ENDS, last, end, wanted, _MAX_SCANNED]
            is_all, *rows = self._connection.run("list_sessions", [list_key], words)
            if rows:
                *_, last, end = rows
            living = self._living(list_key, rows[::2])
            found += living
            # If none of them is live, more are read at once, so that many of those in a row take few calls.
            wanted = limit - len(found) if living else min(2 * wanted, max(limit, _PAGE))
        return found[:limit]

    def _living(self, list_key: str, ids: Sequence[str]) -> Sequence[Session]:
        """Return the live sessions among these: those with a record, not ended, and with current generations.

        The others are removed from the list.
        """
        sessions = [s for id_ in ids if (s := self._record(SessionId(id_))) is not None]
        principals = sorted({p for session in sessions for p in session.principals})
        table: dict[PrincipalId, Generation] = {}
        if principals:
            raised = self._connection.command("HMGET", keys.GENERATIONS, *principals)
            table = generations_of(dict(zip(principals, raised, strict=True)))
        living = [s for s in sessions if first_raised(table, s.principals, s.generations) is None]
        if over := set(ids) - {session.session_id for session in living}:
            self._connection.run("unlist_sessions", [list_key], sorted(over))
        return living

    def _record(self, session_id: SessionId) -> Session | None:
        value, mark = self._connection.command("HMGET", keys.session(session_id), "d", "ended")
        with reading(keys.session(session_id)):
            return decode_session(value) if value is not None and mark is None else None

    def mark_ended(self, session_id: SessionId) -> tuple[list[str], datetime | None]:
        """Prepare the mark on the record of a session that is about to be ended.

        Returns the key of the record, if the script that ends the session can mark it in its own step;
        otherwise no key, and the session's own end if it is known.
        """
        return [keys.session(session_id)], None

    def read(self, session_id: SessionId, *, rotation: PlainRotation | None = None) -> SessionState | None:
        """Return a session and everything that may forbid its refresh; None if it is absent or expired.

        The script that reads it also makes the rotation, if it is plain; in a cluster it never does.
        """
        # Repeatable: after a lost answer the repetition finds the token rotated, as for any repeated call.
        now, *found = self._read(session_id, rotation)
        with reading(f"{keys.session(session_id)} or {keys.ended(session_id)}"):
            return self._state(now, found)

    def _state(self, now: str, found: Sequence[Any]) -> SessionState | None:
        if not found or float(found[3]) <= float(now):
            return None
        rotated, version, value, _, mark, ended, user, client, of_all, of_subject, of_client = found
        session = decode_session(value)
        return SessionState(
            session=session,
            version=int(version),
            ended=mark is not None or (ended is not None and float(ended.split(" ")[1]) > float(now)),
            generations=generations_of(
                {EVERYONE: of_all, session.subject: of_subject, session.client_id: of_client}
            ),
            user=self._user(user) if user else None,
            client=self._client(client) if client else None,
            time=time_of(now),
            rotated=bool(rotated),
        )

    def replace(self, session: Session, *, expected_version: int) -> bool:
        """Replace a session if its version is `expected_version` and it has not ended; return whether so."""
        # Repeatable: after a lost answer the repetition returns False, as if another caller was first, and
        # this caller then reads the session and finds its own successor. Not durable: if a rotation is lost,
        # the client that presents the newer refresh token makes the session advance again.
        home, epoch, now = self._guard()
        replaced = self._connection.run(
            "replace_session",
            [keys.session(session.session_id), *home],
            [epoch, now, expected_version, encode_session(session), time_text(session.expire_time)],
        )
        return bool(replaced)

    def _guard(self) -> tuple[list[str], str, str]:
        """Return the keys and arguments with which a script checks the epoch: head, expected epoch, time."""
        return [keys.HEAD], self._writer.expected(), self._writer.now()

    def _begin(self, audit: AuditEvent | None) -> tuple[list[str], str, list[str | int]]:
        """Return further arguments of the script that stores a session: keys, epoch and the audit event."""
        audit_keys, audit_words = self._writer.event(audit)
        return [keys.HEAD, *audit_keys], self._writer.expected(), audit_words

    def _read(self, session_id: SessionId, rotation: PlainRotation | None) -> list[Any]:
        found = [keys.session(session_id), keys.ended(session_id), keys.GENERATIONS]
        words: list[str | int] = [self._writer.now(), _USERS, _CLIENTS, EVERYONE]
        if rotation is not None:
            found.append(keys.HEAD)
            grace = repr(rotation.grace.total_seconds())
            words += [self._writer.expected(), rotation.shown, rotation.client_id, rotation.key_id, grace]
        answer: list[Any] = self._connection.run("read_session", found, words)
        return answer


class SpreadSessions(RedisSessions):
    """Sign-ins and sessions of a store in a cluster, where a session and `{idn}` may be on two servers."""

    def _guard(self) -> tuple[list[str], str, str]:
        """Check the epoch on the server of `{idn}`; return no key, the epoch, and the time there."""
        expected = self._writer.expected()
        epoch, now = self._connection.run("read_epoch", [keys.HEAD], [self._writer.now()])
        if epoch != expected:
            raise StoreReplacedError
        return [], expected, now

    def _begin(self, audit: AuditEvent | None) -> tuple[list[str], str, list[str | int]]:
        """Check the epoch, and write the audit event first: no session is then without its event.

        No single script can write both, since they may lie on different servers.
        """
        if audit is None:
            return [], self._guard()[1], []
        expected = self._writer.expected()
        audit_keys, audit_words = self._writer.event(audit)
        self._connection.run(
            "begin_session", [keys.HEAD, *audit_keys], [expected, *audit_words], durable=True
        )
        return [], expected, []

    def mark_ended(self, session_id: SessionId) -> tuple[list[str], datetime | None]:
        """Mark the record of a session; return no key, and the session's own end if it is known."""
        # A server that is unavailable is ignored: the key on the server of `{idn}` ends the session anyway.
        with contextlib.suppress(StoreUnavailableError):
            end = self._connection.run("mark_session", [keys.session(session_id)], [], durable=True)
            return [], time_of(end) if end else None
        return [], None

    def _read(self, session_id: SessionId, rotation: PlainRotation | None) -> list[Any]:  # noqa: ARG002
        """Read the session first, then everything that may forbid its refresh, and rotate nothing.

        The latter only grows, so that reading it later is at most stricter than an atomic read.
        """
        held = self._connection.command(
            "HMGET", keys.session(session_id), "v", "d", "expire", "sub", "client", "ended"
        )
        if held[0] is None:
            return [""]
        *state, subject, client, mark = held
        now, *limits = self._connection.run(
            "read_limits",
            [
                keys.ended(session_id),
                keys.GENERATIONS,
                keys.record(RecordKind.USER, subject),
                keys.record(RecordKind.CLIENT, client),
            ],
            [self._writer.now(), EVERYONE, subject, client],
        )
        return [now, 0, *state, mark, *limits]
