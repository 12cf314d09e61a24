"""The store on Redis: each mutation is one script, which changes state and log together or neither.

Owns the keys (see docs/decisions) and what is passed to the scripts; `lua/` says what they do. Times
are the server's, unless a test injects a clock.
"""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Self

from identity_service.domain.errors import AlreadyExistsError, StoreUninitializedError
from identity_service.domain.ids import EVERYONE, Epoch, Link, PrincipalId, SessionId, TokenId, new_link
from identity_service.domain.log import (
    Appended,
    Change,
    Generation,
    GenerationRaised,
    Head,
    LogEntry,
    LogPage,
    RecordChanged,
    RecordKind,
    Revision,
    SessionEnded,
    TokenDenied,
)
from identity_service.domain.ports import Clock, Record, RecordT, SessionState, SignIn, Versioned
from identity_service.domain.principals import Client, User, normalize_username
from identity_service.domain.sessions import Session
from identity_service.storage.codec import (
    decode_change,
    decode_record,
    decode_session,
    encode_change,
    encode_record,
    encode_session,
    kind_of,
    moment,
    seconds,
)
from identity_service.storage.redis.checks import Finding, check_server
from identity_service.storage.redis.connection import Connection

_TAG: Final = "{idn}"
_HEAD: Final = f"{_TAG}:head"
_LOG: Final = f"{_TAG}:log"
_GENERATIONS: Final = f"{_TAG}:gen"
_USERNAMES: Final = f"{_TAG}:usernames"
_USERS: Final = f"{_TAG}:user:"
_CLIENTS: Final = f"{_TAG}:client:"
_PRINCIPALS: Final = (RecordKind.CLIENT, RecordKind.USER)
_MAX_POSITION: Final = 2**63 - 1
_REQUEST_SECONDS: Final = 24 * 3600
_BEAT_SECONDS: Final = 3600


class RedisStore:
    """Implements the port `Store`. Any thread may call any method."""

    def __init__(self, connection: Connection, clock: Clock | None) -> None:
        self._connection = connection
        self._clock = clock
        self._epoch: Epoch | None = None

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
        if not self._connection.run("initialise", [_HEAD], [epoch], repeatable=False):
            raise AlreadyExistsError("the store is initialised already")
        self._epoch = epoch

    def check(self, durability: str, allow_unsafe: bool) -> Sequence[Finding]:
        """What in the server's set-up goes against this durability."""
        return check_server(self._connection, durability, allow_unsafe=allow_unsafe)

    def close(self) -> None:
        self._connection.close()

    # The change log.

    def head(self) -> Head:
        epoch, position, link, now, _ = self._connection.run("read_log", [_HEAD, _LOG], [self._now(), 0, 0])
        return _head(epoch, position, link, now)

    def read(self, after: int, limit: int) -> LogPage:
        epoch, position, link, now, entries = self._connection.run(
            "read_log", [_HEAD, _LOG], [self._now(), min(after, _MAX_POSITION), limit]
        )
        return LogPage(
            entries=tuple(_entry(id_, fields) for id_, fields in entries),
            head=_head(epoch, position, link, now),
        )

    def wait(self, after: int, timeout: float) -> None:
        self._connection.wait(_LOG, after, timeout)

    def beat(self, process: str) -> Head:
        keys = [_HEAD, f"{_TAG}:beat:{process}"]
        return _head(*self._connection.run("beat", keys, [self._now(), _BEAT_SECONDS]))

    def generations(self) -> Mapping[PrincipalId, Generation]:
        flat = self._connection.command("HGETALL", _GENERATIONS)
        return {PrincipalId(p): Generation.parse(text) for p, text in flat.items()}

    def adopt(self, epoch: Epoch) -> None:
        self._epoch = epoch

    # Facts.

    def deny_token(self, token_id: TokenId, deny_until: datetime) -> Appended:
        denied = TokenDenied(token_id=token_id, deny_until=deny_until)
        position, link, until = self._connection.run(
            "deny_token",
            [_HEAD, _LOG, f"{_TAG}:deny:{token_id}"],
            [self._expected(), self._now(), _time(deny_until), encode_change(denied), new_link()],
        )
        return self._appended(position, (TokenDenied(token_id=token_id, deny_until=_moment(until)), link))

    def end_session(self, session_id: SessionId, *, deny_until: datetime, end_until: datetime) -> Appended:
        ended = SessionEnded(session_id=session_id, deny_until=deny_until, end_until=end_until)
        prefix = encode_change(ended).rpartition('"until":')[0] + '"until":'
        position, link, deny, end = self._connection.run(
            "end_session",
            [_HEAD, _LOG, f"{_TAG}:ended:{session_id}"],
            [self._expected(), self._now(), _time(deny_until), _time(end_until), prefix, new_link()],
        )
        held = SessionEnded(session_id=session_id, deny_until=_moment(deny), end_until=_moment(end))
        return self._appended(position, (held, link))

    def raise_generation(self, principal: PrincipalId, *, above: int, request_id: str | None) -> Appended:
        # A request without a name gets one, so that repeating it after a broken connection is safe.
        request_id = request_id or f"call/{secrets.token_urlsafe(16)}"
        position, link, number = self._connection.run(
            "raise_generation",
            [_HEAD, _LOG, _GENERATIONS, f"{_TAG}:request:{principal}:{request_id}"],
            [
                self._expected(),
                self._now(),
                principal,
                above,
                _raise_prefix(principal),
                new_link(),
                _REQUEST_SECONDS,
            ],
        )
        return self._appended(position, (GenerationRaised(principal=principal, number=int(number)), link))

    # Records of the directory.

    def get(self, kind: type[RecordT], id_: str) -> Versioned[RecordT] | None:
        return _versioned(kind, *self._connection.command("HMGET", _record(kind, id_), "value", "revision"))

    def list_records(
        self, kind: type[RecordT], *, after: str = "", limit: int = 100
    ) -> Sequence[Versioned[RecordT]]:
        begin = f"({after}" if after else "-"
        rows = self._connection.run(
            "list_records", [_index(kind_of(kind))], [_record(kind, ""), begin, limit]
        )
        return [found for value, revision in rows if (found := _versioned(kind, value, revision))]

    def find_user(self, username: str) -> Versioned[User] | None:
        _, value, revision, *_ = self._read_sign_in(username, EVERYONE)
        return _versioned(User, value, revision)

    def create(self, record: Record) -> Appended:
        kind = kind_of(type(record))
        # Users and clients share one namespace: a generation belongs to an id, not to a kind.
        taken = [f"{_TAG}:{k}:{record.id}" for k in (_PRINCIPALS if kind in _PRINCIPALS else (kind,))]
        return self._write(record, expected=None, taken=taken, above=None)

    def update(self, record: Record, *, expected: Revision, revoke: bool = False, above: int = 0) -> Appended:
        raises = revoke and kind_of(type(record)) in _PRINCIPALS
        return self._write(record, expected=expected, taken=[], above=above if raises else None)

    def delete(self, kind: RecordKind, id_: str, *, above: int = 0) -> Appended:
        changed, link, raised = RecordChanged(kind=kind, id=id_), new_link(), new_link()
        raising: list[str | int] = [above, _raise_prefix(id_), raised] if kind in _PRINCIPALS else []
        answer = self._connection.run(
            "delete_record",
            [_HEAD, _LOG, _GENERATIONS, f"{_TAG}:{kind}:{id_}", _index(kind), _USERNAMES],
            [self._expected(), self._now(), id_, encode_change(changed), link, *raising],
            repeatable=False,
        )
        return self._written(answer, changed, link, raised)

    # Sign-ins and sessions.

    def read_sign_in(self, username: str, client_id: PrincipalId) -> SignIn:
        now, user, _, client, of_all, of_client, of_user, user_id = self._read_sign_in(username, client_id)
        return SignIn(
            generations=_generations({EVERYONE: of_all, client_id: of_client, user_id or "": of_user}),
            user=decode_record(User, user) if user else None,
            client=decode_record(Client, client) if client else None,
            time=_moment(now),
        )

    def create_session(self, session: Session) -> None:
        self._connection.run(
            "create_session",
            [_HEAD, _session(session.session_id)],
            [
                self._expected(),
                encode_session(session),
                _time(session.expire_time),
                session.subject,
                session.client_id,
            ],
            repeatable=False,
        )

    def read_session(self, session_id: SessionId) -> SessionState | None:
        keys = [_session(session_id), f"{_TAG}:ended:{session_id}", _GENERATIONS]
        now, *found = self._connection.run("read_session", keys, [self._now(), _USERS, _CLIENTS, EVERYONE])
        if not found or float(found[2]) <= float(now):
            return None
        version, value, _, ended, user, client, of_all, of_subject, of_client = found
        session = decode_session(value)
        return SessionState(
            session=session,
            version=int(version),
            ended=ended is not None and float(ended.split(" ")[1]) > float(now),
            generations=_generations(
                {EVERYONE: of_all, session.subject: of_subject, session.client_id: of_client}
            ),
            user=decode_record(User, user) if user else None,
            client=decode_record(Client, client) if client else None,
            time=_moment(now),
        )

    def replace_session(self, session: Session, *, expected_version: int) -> bool:
        replaced = self._connection.run(
            "replace_session",
            [_HEAD, _session(session.session_id)],
            [
                self._expected(),
                self._now(),
                expected_version,
                encode_session(session),
                _time(session.expire_time),
            ],
        )
        return bool(replaced)

    def _read_sign_in(self, username: str, client_id: PrincipalId) -> list[str | None]:
        answer: list[str | None] = self._connection.run(
            "sign_in",
            [_USERNAMES, _GENERATIONS, _record(Client, client_id)],
            [self._now(), normalize_username(username), _USERS, EVERYONE, client_id],
        )
        return answer

    def _write(
        self, record: Record, *, expected: Revision | None, taken: list[str], above: int | None
    ) -> Appended:
        kind = kind_of(type(record))
        changed, link, raised = RecordChanged(kind=kind, id=record.id), new_link(), new_link()
        username = normalize_username(record.username) if isinstance(record, User) else ""
        raising: list[str | int] = [] if above is None else [above, _raise_prefix(record.id), raised]
        answer = self._connection.run(
            "write_record",
            [_HEAD, _LOG, _GENERATIONS, _record(type(record), record.id), _index(kind), _USERNAMES, *taken],
            [
                self._expected(),
                self._now(),
                record.id,
                encode_record(record),
                username,
                str(expected or ""),
                encode_change(changed),
                link,
                *raising,
            ],
            repeatable=False,
        )
        return self._written(answer, changed, link, raised)

    def _written(self, answer: list[str], changed: RecordChanged, link: Link, raised: Link) -> Appended:
        position, *number = answer
        changes: list[tuple[Change, Link]] = [(changed, link)]
        if number and number[0] is not None:
            generation = GenerationRaised(principal=PrincipalId(changed.id), number=int(number[0]))
            changes.append((generation, raised))
        return self._appended(position, *changes)

    def _appended(self, position: str, *changes: tuple[Change, Link]) -> Appended:
        revision = Revision(epoch=Epoch(self._expected()), position=int(position))
        return Appended(revision=revision, changes=changes)

    def _expected(self) -> str:
        """The epoch that a write names; one that no store has before this one is initialised."""
        return self._epoch or ""

    def _now(self) -> str:
        """What scripts take for the time; empty = the server's clock."""
        return "" if self._clock is None else _time(self._clock.now())


def _record(kind: type[Record], id_: str) -> str:
    return f"{_TAG}:{kind_of(kind)}:{id_}"


def _index(kind: RecordKind) -> str:
    return f"{_TAG}:index:{kind}"


def _session(session_id: SessionId) -> str:
    return f"idn:s:{{{session_id}}}"


def _time(time: datetime) -> str:
    return repr(seconds(time))


def _moment(text: str | None) -> datetime:
    return moment(float(text or 0))


def _raise_prefix(principal: str) -> str:
    """The JSON of the change up to its number, which only the script knows."""
    text = encode_change(GenerationRaised(principal=PrincipalId(principal), number=0))
    return text.removesuffix("0}")


def _head(epoch: str, position: str, link: str, now: str) -> Head:
    return Head(epoch=Epoch(epoch), position=int(position), link=Link(link), time=_moment(now))


def _entry(id_: str, flat: Sequence[str]) -> LogEntry:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    return LogEntry(
        position=int(id_.partition("-")[0]),
        link=Link(fields["link"]),
        previous_link=Link(fields["prev"]),
        time=_moment(fields["time"]),
        change=decode_change(fields["change"]),
    )


def _versioned(kind: type[RecordT], value: str | None, revision: str | None) -> Versioned[RecordT] | None:
    if value is None or revision is None:
        return None
    return Versioned(record=decode_record(kind, value), revision=Revision.parse(revision))


def _generations(found: Mapping[str, str | None]) -> dict[PrincipalId, Generation]:
    return {PrincipalId(p): Generation.parse(text) for p, text in found.items() if text}
