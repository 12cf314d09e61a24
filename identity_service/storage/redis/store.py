"""The store on Redis: each mutation is one script, which changes state and log together or neither.

Owns what is passed to the scripts; `lua/` says what they do, `keyspace.py` where. Times are the server's,
unless a test injects a clock.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Self

from identity_service.domain.errors import StoreUninitializedError
from identity_service.domain.ids import EVERYONE, Epoch, Link, PrincipalId, SessionId, TokenId, new_link
from identity_service.domain.log import (
    Appended,
    Fact,
    Generation,
    GenerationRaised,
    Head,
    LogPage,
    RecordKind,
    Revision,
    SessionEnded,
    TokenDenied,
)
from identity_service.domain.ports import Clock, Record, RecordT, SessionState, SignIn, Versioned
from identity_service.domain.principals import Client, User, normalize_username
from identity_service.domain.sessions import Session
from identity_service.storage.codec import decode_record, decode_session, encode_session
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.checks import Finding, check_server
from identity_service.storage.redis.connection import Connection
from identity_service.storage.redis.log import RedisLog
from identity_service.storage.redis.records import Records, versioned
from identity_service.storage.redis.values import (
    denial_prefix,
    end_prefix,
    generations_of,
    raise_prefix,
    time_of,
    time_text,
)
from identity_service.storage.redis.writing import Writing, appended

_USERS: Final = keys.record(RecordKind.USER, "")
_CLIENTS: Final = keys.record(RecordKind.CLIENT, "")
_REQUEST_SECONDS: Final = 24 * 3600
_CALL_SECONDS: Final = 60
"""How long a raise without a request id is remembered: more than one call takes, its repetition included."""
_DECODED: Final = 1024
"""How many records are kept as they were decoded last: most refreshes meet the same few clients."""


class RedisStore:
    """Implements the port `Store`. Any thread may call any method."""

    def __init__(self, connection: Connection, clock: Clock | None) -> None:
        self._connection = connection
        self._writing = Writing(clock)
        self._log = RedisLog(connection, self._writing)
        self._records = Records(connection, self._writing)
        # By their text, so that a record which has changed is another one.
        self._user: Callable[[str], User] = lru_cache(_DECODED)(lambda text: decode_record(User, text))
        self._client: Callable[[str], Client] = lru_cache(_DECODED)(lambda text: decode_record(Client, text))

    @classmethod
    def connect(cls, url: str, *, clock: Clock | None = None, timeout: float = 2.0) -> Self:
        """Connect, and follow the store's epoch where it has one.

        Args:
            url: redis:// or rediss://, with host, port and database.
            clock: for tests; None = the server's own time.
            timeout: seconds that one call may take.

        Raises ConfigurationError, StoreUnavailableError.
        """
        store = cls(Connection(url, timeout), clock)
        try:
            store.adopt(store.head().epoch)
        except StoreUninitializedError:
            pass  # it is about to be initialised
        except BaseException:
            store.close()
            raise
        return store

    def initialise(self, epoch: Epoch) -> None:
        self._connection.run("initialise", [keys.HEAD, keys.LOG], [epoch], repeatable=False)
        self.adopt(epoch)

    def check(self, durability: str, allow_unsafe: bool) -> Sequence[Finding]:
        """What in the server's set-up goes against this durability."""
        return check_server(self._connection, durability, allow_unsafe=allow_unsafe)

    def close(self) -> None:
        self._connection.close()

    # The change log.

    def head(self) -> Head:
        return self._log.head()

    def read(self, after: int, limit: int) -> LogPage:
        return self._log.read(after, limit)

    def wait(self, after: int, timeout: float) -> None:
        self._log.wait(after, timeout)

    def beat(self, process: str, retention: timedelta = timedelta(0)) -> Head:
        return self._log.beat(process, retention)

    def generations(self) -> Mapping[PrincipalId, Generation]:
        return self._log.generations()

    def adopt(self, epoch: Epoch) -> None:
        self._log.adopt(epoch)

    def renew(self, found: Epoch | None, epoch: Epoch) -> Epoch:
        return self._log.renew(found, epoch)

    def restore(self, facts: Sequence[Fact]) -> int:
        return self._log.restore(facts)

    def trim(self, position: int) -> int:
        return self._log.trim(position)

    # Facts.

    def deny_token(self, token_id: TokenId, deny_until: datetime) -> Appended:
        epoch, now = self._writing.expected(), self._writing.now()
        position, link, until = self._connection.run(
            "deny_token",
            [keys.HEAD, keys.LOG, keys.denial(token_id)],
            [epoch, now, time_text(deny_until), denial_prefix(token_id, deny_until), new_link()],
        )
        return appended(epoch, position, (TokenDenied(token_id=token_id, deny_until=time_of(until)), link))

    def end_session(self, session_id: SessionId, *, deny_until: datetime, end_until: datetime) -> Appended:
        epoch, now = self._writing.expected(), self._writing.now()
        times = (time_text(deny_until), time_text(end_until))
        position, link, deny, end = self._connection.run(
            "end_session",
            [keys.HEAD, keys.LOG, keys.ended(session_id)],
            [epoch, now, *times, end_prefix(session_id, deny_until), new_link()],
        )
        held = SessionEnded(session_id=session_id, deny_until=time_of(deny), end_until=time_of(end))
        return appended(epoch, position, (held, link))

    def raise_generation(
        self, principal: PrincipalId, *, above: int, request_id: str | None, link: Link | None = None
    ) -> Appended:
        epoch, now = self._writing.expected(), self._writing.now()
        # A request without a name gets one, so that repeating it after a broken connection is safe.
        name = request_id or f"call/{secrets.token_urlsafe(16)}"
        remember = _REQUEST_SECONDS if request_id else _CALL_SECONDS
        position, held, number = self._connection.run(
            "raise_generation",
            [keys.HEAD, keys.LOG, keys.GENERATIONS, keys.request(name)],
            [epoch, now, principal, above, raise_prefix(principal), link or new_link(), remember],
        )
        raised = GenerationRaised(principal=principal, number=int(number))
        return appended(epoch, position, (raised, Link(held)))

    # Records of the directory.

    def get(self, kind: type[RecordT], id_: str) -> Versioned[RecordT] | None:
        return self._records.get(kind, id_)

    def list_records(
        self, kind: type[RecordT], *, after: str = "", limit: int = 100
    ) -> Sequence[Versioned[RecordT]]:
        return self._records.list_records(kind, after=after, limit=limit)

    def find_user(self, username: str) -> Versioned[User] | None:
        _, value, revision, *_ = self._read_sign_in(username, EVERYONE)
        return versioned(User, value, revision)

    def create(self, record: Record) -> Appended:
        return self._records.create(record)

    def update(self, record: Record, *, expected: Revision, revoke: bool = False, above: int = 0) -> Appended:
        return self._records.update(record, expected=expected, revoke=revoke, above=above)

    def delete(self, kind: RecordKind, id_: str, *, above: int = 0) -> Appended:
        return self._records.delete(kind, id_, above=above)

    # Sign-ins and sessions.

    def read_sign_in(self, username: str, client_id: PrincipalId) -> SignIn:
        now, user, _, client, of_all, of_client, of_user, user_id = self._read_sign_in(username, client_id)
        return SignIn(
            generations=generations_of({EVERYONE: of_all, client_id: of_client, user_id or "": of_user}),
            user=self._user(user) if user else None,
            client=self._client(client) if client else None,
            time=time_of(now),
        )

    def create_session(self, session: Session) -> None:
        expire = time_text(session.expire_time)
        self._connection.run(
            "create_session",
            [keys.HEAD, keys.session(session.session_id)],
            [self._writing.expected(), encode_session(session), expire, session.subject, session.client_id],
            repeatable=False,
        )

    def read_session(self, session_id: SessionId) -> SessionState | None:
        now, *found = self._connection.run(
            "read_session",
            [keys.session(session_id), keys.ended(session_id), keys.GENERATIONS],
            [self._writing.now(), _USERS, _CLIENTS, EVERYONE],
        )
        if not found or float(found[2]) <= float(now):
            return None
        version, value, _, ended, user, client, of_all, of_subject, of_client = found
        session = decode_session(value)
        return SessionState(
            session=session,
            version=int(version),
            ended=ended is not None and float(ended.split(" ")[1]) > float(now),
            generations=generations_of(
                {EVERYONE: of_all, session.subject: of_subject, session.client_id: of_client}
            ),
            user=self._user(user) if user else None,
            client=self._client(client) if client else None,
            time=time_of(now),
        )

    def replace_session(self, session: Session, *, expected_version: int) -> bool:
        # Repeating it is safe: after a lost answer it says that somebody else was first, and the caller
        # who then reads the session again finds the successor that it made itself.
        expire = time_text(session.expire_time)
        replaced = self._connection.run(
            "replace_session",
            [keys.HEAD, keys.session(session.session_id)],
            [
                self._writing.expected(),
                self._writing.now(),
                expected_version,
                encode_session(session),
                expire,
            ],
        )
        return bool(replaced)

    def _read_sign_in(self, username: str, client_id: PrincipalId) -> list[Any]:
        answer: list[Any] = self._connection.run(
            "sign_in",
            [keys.USERNAMES, keys.GENERATIONS, keys.record(RecordKind.CLIENT, client_id)],
            [self._writing.now(), normalize_username(username), _USERS, EVERYONE, client_id],
        )
        return answer
