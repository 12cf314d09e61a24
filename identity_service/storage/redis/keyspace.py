"""The names of the keys in Redis. Knows nothing of what is done with them.

Everything but the sessions shares the hash tag `{idn}`, so that one script changes record, log and state
together, in a cluster too; sessions are spread over it. Other tools may read these keys, so the names are
part of what is promised:

    {idn}:log:head           hash: format (2), epoch, position and link of the last entry, floor, retention;
                             how many entries are kept and how many principals were ever raised; incomplete
                             (the log is to be completed from the state); the longest lifetime, session
                             and leeway ever configured; the latest steady time, and the latest time of any
                             heartbeat; fence (JSON: where the store was moved to)
    {idn}:copy               the epoch of a copy into this store that is not finished: there is no head then
    {idn}:head               a text: version 0.1.0 had its head here, and finds that it cannot go on
    {idn}:log                stream of the changes: id `<position>-0`; link, prev, time, change
    {idn}:gen                hash: principal → `<number>.<link>`
    {idn}:deny:<jti>         `<until> <revision> <link>`
    {idn}:ended:<sid>        `<deny-until> <end-until> <revision> <link>`
    {idn}:<kind>:<id>        hash: value (JSON), revision, names; kind = client, user, key, issuer
    {idn}:index:<kind>       sorted set of the ids, all of score 0
    {idn}:usernames          hash: normalised username → user id
    {idn}:names:<kind>       the same of other kinds; for clients: name of a certificate → client id
    {idn}:sessions:<id>      sorted set of a principal's sessions by their end
    {idn}:used:<name>        `<until>`: something that works once only was used
    {idn}:audit              stream of the audit events of changes: time, event (JSON); the newest are kept. A
                             store of an older version has those of traffic here, too
    {idn}:audit:traffic      stream of the audit events of traffic; no id is in both streams
    {idn}:beat:<process>     `<time> <status>` of the last heartbeat; an hour
    {idn}:heartbeats         sorted set of the processes by the time of their last heartbeat
    {idn}:attempts           sorted set of the counters of failures by the end of their window; expires
    {idn}:attempt:<name>     hash: one of these counters, and claims in progress; see `attempt.lua`; expires
    {idn}:request:<id>       hash: principal → what a request of this id has raised, for a day
    idn:s:{<sid>}            hash: v (version), d (JSON), expire, sub, client, ended

What has an end is deleted a day after it: every decision compares times, none relies on a key being gone.
"""

from typing import Final

from identity_service.domain.ids import PrincipalId, SessionId, TokenId
from identity_service.domain.log import RecordKind

_TAG: Final = "{idn}"
ALL: Final = f"{_TAG}:"
"""What every key begins with but those of sessions."""
HEAD: Final = f"{_TAG}:log:head"
OLD_HEAD: Final = f"{_TAG}:head"
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
    return DENIALS + token_id


def ended(session_id: SessionId) -> str:
    return ENDS + session_id


def record(kind: RecordKind, id_: str) -> str:
    """With an empty id: what the keys of this kind begin with."""
    return f"{_TAG}:{kind}:{id_}"


def index(kind: RecordKind) -> str:
    return INDEXES + kind


def names(kind: RecordKind) -> str:
    # That of users is older than the others, and stores that were made before them have it.
    return f"{_TAG}:usernames" if kind is RecordKind.USER else f"{_TAG}:names:{kind}"


def sessions_of(principal: PrincipalId) -> str:
    return LISTS + principal


def used(name: str) -> str:
    return USED + name


def heartbeat(process: str) -> str:
    """With an empty process: what the keys of heartbeats begin with."""
    return f"{_TAG}:beat:{process}"


def attempt(name: str) -> str:
    return f"{_TAG}:attempt:{name}"


def request(request_id: str) -> str:
    return f"{_TAG}:request:{request_id}"


def session(session_id: SessionId) -> str:
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
    """The type that a key of this service has in Redis; of a key that is none of them, `none`."""
    if not key.startswith(f"{_TAG}:"):
        return "hash" if key.startswith(SESSIONS) else "none"
    name = key.removeprefix(f"{_TAG}:")
    return _TYPES.get(name) or _TYPES.get(name.partition(":")[0], "none")
