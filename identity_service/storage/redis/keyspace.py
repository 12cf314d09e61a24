"""The names of the keys in Redis, and the arguments that every script gets: epoch, time and audit event.

All keys except those of the sessions share the hash tag `{idn}`, so that one script changes record, log and
state together, even in a cluster; the sessions are spread over its servers. Other tools may read these keys,
so their names are part of the public contract:

    {idn}:log:head           hash: format (2), epoch, position and link of the last entry, floor, retention;
                             the number of entries in the log, and of principals that were ever raised;
                             incomplete (the log must be completed from the state); the longest lifetime,
                             session and leeway ever configured; the latest steady time, and the latest time
                             of any heartbeat; fence (JSON: where the store was moved to)
    {idn}:copy               the epoch of an unfinished copy into this store; there is no head then
    {idn}:head               a text: version 0.1.0 had its head here, and fails when it finds a text
    {idn}:log                stream of the changes: id `<position>-0`; link, prev, time, change
    {idn}:gen                hash: principal → `<number>.<link>`
    {idn}:deny:<jti>         `<until> <revision> <link>`
    {idn}:ended:<sid>        `<deny-until> <end-until> <revision> <link>`
    {idn}:<kind>:<id>        hash: value (JSON), revision, names; kind = client, user, key, issuer
    {idn}:index:<kind>       sorted set of the ids, all of score 0
    {idn}:usernames          hash: normalised username → user id
    {idn}:names:<kind>       the same of other kinds; for clients: name of a certificate → client id
    {idn}:sessions:<id>      sorted set of a principal's sessions by their end
    {idn}:used:<name>        `<until>`: a value that works only once was used
    {idn}:audit              stream of the audit events of changes: time, event (JSON); the newest are kept.
                             Older versions also stored those of traffic here
    {idn}:audit:traffic      stream of the audit events of traffic; no id is in both streams
    {idn}:beat:<process>     `<time> <status>` of the last heartbeat; expires after an hour
    {idn}:heartbeats         sorted set of the processes by the time of their last heartbeat
    {idn}:attempts           sorted set of the counters of failures by the end of their window; expires
    {idn}:attempt:<name>     hash: one of these counters, and claims in progress; see `attempt.lua`; expires
    {idn}:request:<id>       hash: principal → the generation that a request of this id raised; for a day
    idn:s:{<sid>}            hash: v (version), d (JSON), expire, sub, client, ended

A key that has an end (until, deny-until, end-until or expire) is deleted a day after it. Every decision
compares times, and none relies on the absence of a key.

Times are Unix seconds as decimal text, in arguments and in answers: Lua would round a number when it prints
it. The writer owns the epoch that this process follows. A part of the store names only the keys and arguments
of its own, so that no mutation can leave out the epoch, or write without a confirmation by accident.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from identity_service.domain.audit import AuditEvent, RingSizes
from identity_service.domain.ids import Epoch, Link, PrincipalId, SessionId, TokenId
from identity_service.domain.log import Appended, Change, Generation, RecordKind, Revision
from identity_service.domain.ports import Clock
from identity_service.storage.codec import encode_event, moment, reading, seconds

if TYPE_CHECKING:
    from identity_service.storage.redis.client.connection import RedisConnection

_TAG: Final = "{idn}"
ALL: Final = f"{_TAG}:"
"""The prefix of all keys except those of sessions."""
HEAD: Final = f"{_TAG}:log:head"
OLD_HEAD: Final = f"{_TAG}:head"
"""The key in which version 0.1.0 had its head."""
OLD_HEAD_TEXT: Final = "this store is of a newer version of identity-service: run that version"
"""The text that version 0.1.0 finds in place of its head: not a hash, so that each of its commands fails."""
LOG: Final = f"{_TAG}:log"
GENERATIONS: Final = f"{_TAG}:gen"
AUDIT: Final = f"{_TAG}:audit"
AUDIT_TRAFFIC: Final = f"{_TAG}:audit:traffic"
DENIALS: Final = f"{_TAG}:deny:"
ENDS: Final = f"{_TAG}:ended:"
USED: Final = f"{_TAG}:used:"
LISTS: Final = f"{_TAG}:sessions:"
INDEXES: Final = f"{_TAG}:index:"
HEARTBEATS: Final = f"{_TAG}:heartbeats"
ATTEMPTS: Final = f"{_TAG}:attempts"
COPY: Final = f"{_TAG}:copy"
SESSIONS: Final = "idn:s:"


def denial(token_id: TokenId) -> str:
    """Return the key of the denial of a token id."""
    return DENIALS + token_id


def ended(session_id: SessionId) -> str:
    """Return the key that says that a session has ended."""
    return ENDS + session_id


def record(kind: RecordKind, id_: str) -> str:
    """Return the key of a record; with an empty id, the prefix of all keys of this kind."""
    return f"{_TAG}:{kind}:{id_}"


def index(kind: RecordKind) -> str:
    """Return the key of the sorted set of all ids of a kind."""
    return INDEXES + kind


def names(kind: RecordKind) -> str:
    """Return the key of the hash that maps the names of records of a kind to their ids."""
    # The key of users has another form because it is older than the others, and existing stores have it.
    return f"{_TAG}:usernames" if kind is RecordKind.USER else f"{_TAG}:names:{kind}"


def sessions_of(principal: PrincipalId) -> str:
    """Return the key of the list of a principal's sessions."""
    return LISTS + principal


def used(name: str) -> str:
    """Return the key which exists once a single-use value, such as the `jti` of an assertion, was used."""
    return USED + name


def heartbeat(process: str) -> str:
    """Return the key of the last heartbeat of a process; with an empty process, the prefix of these keys."""
    return f"{_TAG}:beat:{process}"


def attempt(name: str) -> str:
    """Return the key of the counter of failed attempts of this name."""
    return f"{_TAG}:attempt:{name}"


def request(request_id: str) -> str:
    """Return the key that remembers which generations a request has raised."""
    return f"{_TAG}:request:{request_id}"


def session(session_id: SessionId) -> str:
    """Return the key of the record of a session; its hash tag is the session id."""
    return f"{SESSIONS}{{{session_id}}}"


_TYPES: Final[dict[str, str]] = {
    "log:head": "hash",
    "head": "string",
    "copy": "string",
    "log": "stream",
    "audit": "stream",
    "gen": "hash",
    "usernames": "hash",
    "heartbeats": "zset",
    "deny": "string",
    "ended": "string",
    "used": "string",
    "beat": "string",
    "attempts": "zset",
    "attempt": "hash",
    "request": "hash",
    "names": "hash",
    "index": "zset",
    "sessions": "zset",
    **{kind.value: "hash" for kind in RecordKind},
}


def type_of(key: str) -> str:
    """Return the type that a key of this service has in Redis, or `none` for any other key."""
    if not key.startswith(f"{_TAG}:"):
        return "hash" if key.startswith(SESSIONS) else "none"
    name = key.removeprefix(f"{_TAG}:")
    return _TYPES.get(name) or _TYPES.get(name.partition(":")[0], "none")


class Writer:
    """A runner of mutating scripts under the epoch that this process follows. Thread-safe."""

    def __init__(self, connection: "RedisConnection", clock: Clock | None, keep: RingSizes) -> None:
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
        return [AUDIT], [self.now(), self._keep.changes, encode_event(audit)]

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
        those of `RedisConnection.run`.
        """
        epoch = self._epoch if epoch is None else epoch
        audit_keys, audit_words = self.event(audit)
        answer = self._connection.run(
            script,
            [HEAD, LOG, GENERATIONS, *own_keys, *audit_keys],
            [epoch, self.now(), *words, *audit_words],
            repeatable=repeatable,
            durable=durable,
        )
        return epoch, answer


def time_text(time: datetime) -> str:
    """Return a time in the form that scripts take: Unix seconds as decimal text."""
    return repr(seconds(time))


def seconds_text(number: float | None) -> str:
    """Return a number of seconds in the form that scripts take; empty for None."""
    return "" if number is None else repr(number)


def time_of(text: str) -> datetime:
    """Return the time of Unix seconds as decimal text. Raises ValueError if the text is not a number."""
    return moment(float(text))


def generations_of(found: Mapping[str, str | None]) -> dict[PrincipalId, Generation]:
    """Return generations from their text, without those that were never raised. Raises StoreDamagedError."""
    with reading(GENERATIONS):
        return {PrincipalId(p): Generation.parse(text) for p, text in found.items() if text}


def appended(
    epoch: Epoch, position: str, *changes: tuple[Change, Link], link: Link | None = None
) -> Appended:
    """Return the result of a write under `epoch`: the changes that its script appended, or found in the log.

    `link` is the link of the entry at the position; None = that of the last change.
    """
    there = changes[-1][1] if link is None else link
    return Appended(revision=Revision(epoch=epoch, position=int(position), link=there), changes=changes)
