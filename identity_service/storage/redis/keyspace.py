"""The names of the keys in Redis.

All keys except those of the sessions share the hash tag `{idn}`, so that one script changes record, log and
state together, also in a cluster; the sessions are spread over its servers. Other tools may read these keys,
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
"""

from typing import Final

from identity_service.domain.ids import PrincipalId, SessionId, TokenId
from identity_service.domain.log import RecordKind

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
    """Return the key that says that a value which works only once was used."""
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
