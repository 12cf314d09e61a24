"""The store on Redis: each mutation is one script, which changes both state and log, or neither.

This module passes keys and arguments to the scripts; `lua/` has the scripts, `keyspace.py` the names of the
keys. Times are those of the server, unless a test injects a clock.
"""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Self

from identity_service.domain.audit import AuditEvent, AuditFilter, StoredEvent
from identity_service.domain.errors import StoreDamagedError, StoreUninitializedError
from identity_service.domain.ids import Epoch, Link, PrincipalId, SessionId, TokenId, new_link
from identity_service.domain.log import (
    Appended,
    Fact,
    Generation,
    GenerationRaised,
    Head,
    Heartbeat,
    LogEntry,
    LogPage,
    Marks,
    RecordKind,
    RepairResult,
    Revision,
    SessionEnded,
    TokenDenied,
)
from identity_service.domain.ports import Clock, EventLog
from identity_service.domain.principals import Client, User
from identity_service.domain.sessions import Session
from identity_service.domain.store import NO_MARKS, Record, RecordT, SessionState, SignIn, Versioned
from identity_service.storage.audit_codec import AUDIT_ENTRIES, RingSizes
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.attempts import RedisAttempts
from identity_service.storage.redis.audit import AuditLog
from identity_service.storage.redis.client.connection import Connection
from identity_service.storage.redis.client.server_checks import Demands, Finding
from identity_service.storage.redis.copying import RedisCopying
from identity_service.storage.redis.log import FENCE, RedisLog
from identity_service.storage.redis.records import Records
from identity_service.storage.redis.sessions import Sessions, SpreadSessions
from identity_service.storage.redis.values import (
    denial_prefix,
    end_prefix,
    head_of,
    raise_prefix,
    time_of,
    time_text,
)
from identity_service.storage.redis.writing import Writing, appended

_REQUEST_SECONDS: Final = 24 * 3600
"""How long a raised generation is remembered under its request id."""
_CALL_SECONDS: Final = 60
"""How long it is remembered without a request id: longer than one call takes, its retry included."""


class RedisStore:
    """A store on Redis, implementing the port `CopyableStore`. Thread-safe."""

    def __init__(self, connection: Connection, clock: Clock | None, keep_events: RingSizes) -> None:
        """Use a connection, without calling the server; `clock` None = the time of the server."""
        self._connection = connection
        self._writing = Writing(clock)
        self._log = RedisLog(connection, self._writing)
        self._audit = AuditLog(connection, self._writing, keep_events)
        self._records = Records(connection, self._writing, self._audit)
        self._sessions = (SpreadSessions if connection.is_spread else Sessions)(
            connection, self._writing, self._audit
        )
        self._copying = RedisCopying(
            connection, self._writing, self._log, self._records, self._audit, keep_events
        )

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        clock: Clock | None = None,
        timeout: float = 2.0,
        demands: Demands | None = None,
        wall_clock: Clock | None = None,
        event_log: EventLog | None = None,
        audit_entries: int = AUDIT_ENTRIES,
        audit_traffic_entries: int = AUDIT_ENTRIES,
        may_be_damaged: bool = False,
    ) -> Self:
        """Connect to a store, and adopt its epoch if it has one.

        Args:
            url: redis://, redis+sentinel:// or redis+cluster://, `rediss` for TLS; see `address.py`.
            clock: for tests; None = the time of the server.
            timeout: seconds that one call may take.
            demands: what every server must fulfil before it is used, and what confirms a write; None = no
                server is checked, and the answer to a write is its only confirmation.
            wall_clock: the clock of this process, compared with that of each server; None = they are not
                compared.
            event_log: where findings about the configuration of the servers are logged; None = they are not.
            audit_entries: how many audit events of changes are kept.
            audit_traffic_entries: how many audit events of traffic are kept.
            may_be_damaged: also return a store with a damaged head, which the caller is about to replace.

        Raises ConfigurationError, StoreUnavailableError, StoreDamagedError.
        """
        connection = Connection(url, timeout, demands=demands, clock=wall_clock, event_log=event_log)
        store = cls(connection, clock, RingSizes(changes=audit_entries, traffic=audit_traffic_entries))
        try:
            store.open_log()
        except StoreUninitializedError:
            pass  # the caller may initialise it
        except BaseException as error:
            if not (may_be_damaged and isinstance(error, StoreDamagedError)):
                store.close()
                raise
        return store

    def open_log(self) -> None:
        """Adopt the epoch of the store, after upgrading a store of version 0.1.0.

        Raises StoreUninitializedError; ConfigurationError if a process of that version still runs.
        """
        try:
            self.adopt(self.head().epoch)
        except StoreUninitializedError:
            if not self._log.upgrade():
                raise
            self.adopt(self.head().epoch)

    def initialise(self, epoch: Epoch) -> None:
        """Give an empty store its epoch, and adopt it."""
        found = [keys.HEAD, keys.OLD_HEAD, keys.LOG, keys.GENERATIONS, keys.index(RecordKind.KEY)]
        self._connection.run("initialise", found, [epoch, FENCE], repeatable=False, durable=True)
        self.adopt(epoch)

    def accept_clock(self, time: datetime, *, audit: AuditEvent | None = None) -> Head:
        """Set the latest steady time back to `time`, and return the head."""
        audit_keys, audit_words = self._audit.words(audit)
        return head_of(
            *self._connection.run(
                "accept_clock",
                [keys.HEAD, *audit_keys],
                [self._writing.now(), time_text(time), *audit_words],
                repeatable=False,
                durable=True,
            )
        )

    def check(self, durability: str, allow_unsafe: bool) -> Sequence[Finding]:
        """Return the findings against this durability in the servers' configuration, refusals first."""
        return self.check_all(Demands(durability=durability, allow_unsafe=allow_unsafe))

    def check_all(self, demands: Demands) -> Sequence[Finding]:
        """Return the findings against these demands in the servers' configuration, refusals first."""
        return self._connection.check(demands)

    @property
    def copying(self) -> RedisCopying:
        """The ports that read and write the whole store for a copy."""
        return self._copying

    def attempts(self) -> RedisAttempts:
        """Return the counts of failed attempts, for all processes together."""
        return RedisAttempts(self._connection, self._writing)

    def close(self) -> None:
        """Close all connections."""
        self._connection.close()

    # The change log.

    def head(self) -> Head:
        """Return the end of the change log now."""
        return self._log.head()

    def read(self, after: int, limit: int) -> LogPage:
        """Return at most `limit` entries after a position, with the head of the same moment."""
        return self._log.read(after, limit)

    def read_entries(self, after: int, limit: int) -> tuple[LogEntry, ...]:
        """Return at most `limit` entries after a position, without the head."""
        return self._log.read_entries(after, limit)

    def wait(self, after: int, timeout: float) -> None:
        """Block until there is an entry after a position, or until `timeout` seconds have passed."""
        self._log.wait(after, timeout)

    def heartbeat(
        self,
        process: str,
        retention: timedelta = timedelta(0),
        *,
        marks: Marks = NO_MARKS,
        status: str = "",
    ) -> Head:
        """Write a durable heartbeat of this process, and return the head."""
        return self._log.heartbeat(process, retention, marks, status)

    def heartbeats(self) -> Sequence[Heartbeat]:
        """Return the last heartbeat of each process within the last hour, the latest first."""
        return self._log.heartbeats()

    def generations(self) -> Mapping[PrincipalId, Generation]:
        """Return the generation of every principal that was ever raised."""
        return self._log.generations()

    def adopt(self, epoch: Epoch) -> None:
        """Expect this epoch in every write from now on."""
        self._log.adopt(epoch)

    def renew(self, found: Epoch | None, epoch: Epoch) -> Epoch:
        """Give the log a new epoch if it still has `found`; return the epoch that it has now."""
        return self._log.renew(found, epoch)

    def repair(self, facts: Sequence[Fact]) -> RepairResult:
        """Append those of the facts that the store lacks."""
        return self._log.repair(facts)

    def rebuild(self) -> int:
        """Complete log and state from each other; return how many facts were missing."""
        return self._log.rebuild()

    def trim(self, position: int, keep: Sequence[Fact] = ()) -> int:
        """Remove old entries up to a position, append `keep` again, and return the floor."""
        return self._log.trim(position, keep)

    # Facts.

    def deny_token(
        self, token_id: TokenId, deny_until: datetime, *, audit: AuditEvent | None = None
    ) -> Appended:
        """Deny a token id until a time; an existing denial is never shortened."""
        epoch, now = self._writing.expected(), self._writing.now()
        audit_keys, audit_words = self._audit.words(audit)
        change = denial_prefix(token_id, deny_until)
        position, link, until = self._connection.run(
            "deny_token",
            [keys.HEAD, keys.LOG, keys.denial(token_id), *audit_keys],
            [epoch, now, time_text(deny_until), change, new_link(), *audit_words],
            durable=True,
        )
        return appended(epoch, position, (TokenDenied(token_id=token_id, deny_until=time_of(until)), link))

    def end_session(
        self,
        session_id: SessionId,
        *,
        deny_until: datetime,
        end_until: datetime,
        audit: AuditEvent | None = None,
    ) -> Appended:
        """End a session at least until its own end, and mark its record."""
        epoch, now = self._writing.expected(), self._writing.now()
        audit_keys, audit_words = self._audit.words(audit)
        session_keys, own_end = self._sessions.mark_ended(session_id)
        times = (time_text(deny_until), time_text(max(end_until, own_end or end_until)))
        position, link, deny, end = self._connection.run(
            "end_session",
            [keys.HEAD, keys.LOG, keys.ended(session_id), *session_keys, *audit_keys],
            [epoch, now, *times, end_prefix(session_id, deny_until), new_link(), *audit_words],
            durable=True,
        )
        held = SessionEnded(session_id=session_id, deny_until=time_of(deny), end_until=time_of(end))
        return appended(epoch, position, (held, link))

    def raise_generation(
        self,
        principal: PrincipalId,
        *,
        above: int,
        request_id: str | None,
        link: Link | None = None,
        audit: AuditEvent | None = None,
    ) -> Appended:
        """Raise a generation, once for each request id within 24 hours."""
        epoch, now = self._writing.expected(), self._writing.now()
        audit_keys, audit_words = self._audit.words(audit)
        # A request without an id gets one, so that a retry after a broken connection does not raise again.
        name = request_id or f"call/{secrets.token_urlsafe(16)}"
        remember = (_REQUEST_SECONDS, 2 * _REQUEST_SECONDS) if request_id else (_CALL_SECONDS, _CALL_SECONDS)
        position, held, number, there = self._connection.run(
            "raise_generation",
            [keys.HEAD, keys.LOG, keys.GENERATIONS, keys.request(name), *audit_keys],
            [
                epoch,
                now,
                principal,
                above,
                raise_prefix(principal),
                link or new_link(),
                *remember,
                *audit_words,
            ],
            durable=True,
        )
        raised = GenerationRaised(principal=principal, number=int(number))
        return appended(epoch, position, (raised, Link(held)), link=Link(there))

    # Records of the directory.

    def get(self, kind: type[RecordT], id_: str) -> Versioned[RecordT] | None:
        """Return a record by its id, or None."""
        return self._records.get(kind, id_)

    def list_records(
        self, kind: type[RecordT], *, after: str = "", limit: int = 100
    ) -> Sequence[Versioned[RecordT]]:
        """Return at most `limit` records with an id greater than `after`, ordered by id."""
        return self._records.list_records(kind, after=after, limit=limit)

    def find_user(self, username: str) -> Versioned[User] | None:
        """Return the user with this username, or None."""
        return self._sessions.find_user(username)

    def find_client(self, certificate: str) -> Versioned[Client] | None:
        """Return the client that has this certificate name, or None."""
        return self._records.find_client(certificate)

    def create(self, record: Record, *, audit: AuditEvent | None = None) -> Appended:
        """Store a new record."""
        return self._records.create(record, audit)

    def update(
        self,
        record: Record,
        *,
        expected: Revision,
        revoke: bool = False,
        above: int = 0,
        link: Link | None = None,
        audit: AuditEvent | None = None,
    ) -> Appended:
        """Replace a record, and with `revoke` raise the generation of its principal in the same step."""
        return self._records.update(
            record, expected=expected, revoke=revoke, above=above, link=link, audit=audit
        )

    def delete(
        self,
        kind: RecordKind,
        id_: str,
        *,
        expected: Revision | None = None,
        above: int = 0,
        link: Link | None = None,
        audit: AuditEvent | None = None,
    ) -> Appended:
        """Delete a record, and raise the generation of its principal in the same step."""
        return self._records.delete(kind, id_, expected=expected, above=above, link=link, audit=audit)

    # Sign-ins and sessions.

    def read_sign_in(self, username: str, client_id: PrincipalId) -> SignIn:
        """Return what a sign-in with a username needs."""
        return self._sessions.read_sign_in(username, client_id)

    def create_session(self, session: Session, *, audit: AuditEvent | None = None) -> None:
        """Store a new session and list it under its subject and its client."""
        self._sessions.create(session, audit)

    def read_session(self, session_id: SessionId) -> SessionState | None:
        """Return a session and everything that may forbid to refresh it, or None."""
        return self._sessions.read(session_id)

    def replace_session(self, session: Session, *, expected_version: int) -> bool:
        """Replace a session if its version is `expected_version` and it has not ended; return whether so."""
        return self._sessions.replace(session, expected_version=expected_version)

    def list_sessions(self, owner: PrincipalId, *, before: str = "", limit: int = 100) -> Sequence[Session]:
        """Return a page of live sessions of a subject or client, the one that ends last first."""
        return self._sessions.list_of(owner, before, limit)

    def consume(self, key: str, until: datetime) -> bool:
        """Mark a key as used until a time; return whether this call is the first to use it."""
        # Not retried after a broken connection: the second call would find the mark of the first.
        found = [keys.used(key), keys.HEAD]
        words = [self._writing.now(), time_text(until)]
        return bool(self._connection.run("consume", found, words, repeatable=False, durable=True))

    # Audit events.

    def append_audit(self, events: Sequence[AuditEvent]) -> None:
        """Append audit events that record no change of their own."""
        self._audit.append(events)

    def list_audit(
        self, wanted: AuditFilter, *, before: str = "", limit: int = 100
    ) -> tuple[Sequence[StoredEvent], str]:
        """Return audit events that pass the filter, the newest first, and where the next page begins."""
        return self._audit.list_newest(wanted, before, limit)

    def read_audit(self, after: str | None, limit: int) -> Sequence[StoredEvent]:
        """Return audit events after the id `after`, the oldest first; None = the last event alone."""
        return self._audit.read_after(after, limit)
