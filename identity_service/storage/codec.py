"""The codec of domain values: JSON text that both stores write to their rows and keys.

The module knows no store. Every value is a flat object with a fixed set of members; times are Unix seconds as
a float. A value of a newer version is not interpreted: it raises ValueError, which `reading` makes an error
that names the place. `record_codec.py` has the codec of records.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import orjson

from identity_service.domain.audit import AuditEvent, AuditOutcome, AuditType
from identity_service.domain.copying import Fence
from identity_service.domain.errors import StoreDamagedError, StoreFencedError, StoreUnavailableError
from identity_service.domain.ids import Epoch, KeyId, PrincipalId, SessionId
from identity_service.domain.log import (
    Change,
    Generation,
    GenerationRaised,
    Marks,
    RecordChanged,
    RecordKind,
    SessionEnded,
    TokenDenied,
)
from identity_service.domain.sessions import Session
from identity_service.domain.tokens import TokenEncryption

Json = dict[str, Any]


def dumps(value: object) -> str:
    """Return the value as compact JSON, with characters beyond ASCII unescaped."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def seconds(time: datetime) -> float:
    """Return the time as Unix seconds."""
    return time.timestamp()


def moment(value: float) -> datetime:
    """Return the UTC time of these Unix seconds."""
    return datetime.fromtimestamp(value, UTC)


def maybe(convert: Callable[[Any], Any], value: object) -> Any:
    """Return None for None, else the converted value."""
    return None if value is None else convert(value)


def encode_marks(marks: Marks) -> tuple[float | None, ...]:
    """Return lifetime, session, leeway, time and latest in seconds; a time may be None."""
    durations = (marks.lifetime.total_seconds(), marks.session.total_seconds(), marks.leeway.total_seconds())
    return (*durations, maybe(seconds, marks.time), maybe(seconds, marks.latest))


def decode_marks(lifetime: Any, session: Any, leeway: Any, time: Any, latest: Any) -> Marks:
    """Return the marks of the numbers that `encode_marks` returned. Raises TypeError, OverflowError."""
    return Marks(
        lifetime=timedelta(seconds=lifetime),
        session=timedelta(seconds=session),
        leeway=timedelta(seconds=leeway),
        time=maybe(moment, time),
        latest=maybe(moment, latest),
    )


# A value in a store that this service did not write there.

_DECODING_ERRORS = (ValueError, KeyError, TypeError, IndexError, OverflowError)
"""The exceptions that decoding raises for a value that this service did not write."""


def damaged(where: str, what: str) -> StoreDamagedError:
    """Return the error that names the key or row (`where`), what is wrong with it, and what to do."""
    return StoreDamagedError(
        f"the store is damaged: `{where}` {what}. Delete it if another program wrote it; otherwise "
        "correct its value, or restore a backup"
    )


@contextmanager
def reading(where: str, what: str = "holds a value that this version does not know") -> Iterator[None]:
    """Translate the errors of decoding in the block into a StoreDamagedError that names `where`."""
    try:
        yield
    except _DECODING_ERRORS as error:
        raise damaged(where, what) from error


# Sessions and audit events


def encode_session(session: Session) -> str:
    """Return the session as JSON text.

    The members that a rotation changes are the last: `lua/read_session.lua` replaces the end of the text.
    """
    return dumps(
        {
            "sid": session.session_id,
            "sub": session.subject,
            "client": session.client_id,
            "aud": session.audiences,
            "scope": session.scopes,
            "life": session.lifetime.total_seconds(),
            "claims": session.claims,
            "gen": {p: str(g) for p, g in session.generations.items()},
            "auth": seconds(session.auth_time),
            "expire": seconds(session.expire_time),
            "device": session.device,
            "peer": session.peer,
            "may_act": session.may_act,
            "cert": maybe(bytes.hex, session.certificate_sha256),
            "jkt": maybe(bytes.hex, session.key_sha256),
            "encryption": session.encryption,
            "key": session.key_id,
            "latest": session.latest,
            "parent": session.parent,
            "refresh": maybe(seconds, session.refresh_time),
            "times": {str(n): seconds(t) for n, t in session.rotate_times.items()},
        }
    )


def decode_session(text: str) -> Session:
    """Return the session of a JSON text. Raises ValueError, KeyError or TypeError."""
    data: Json = orjson.loads(text)
    return Session(
        session_id=SessionId(data["sid"]),
        subject=PrincipalId(data["sub"]),
        client_id=PrincipalId(data["client"]),
        audiences=tuple(data["aud"]),
        scopes=tuple(data["scope"]),
        lifetime=timedelta(seconds=data["life"]),
        claims=data["claims"],
        generations={PrincipalId(p): Generation.parse(g) for p, g in data["gen"].items()},
        auth_time=moment(data["auth"]),
        expire_time=moment(data["expire"]),
        device=data["device"],
        peer=data.get("peer", ""),
        may_act=maybe(PrincipalId, data.get("may_act")),
        certificate_sha256=maybe(bytes.fromhex, data.get("cert")),
        key_sha256=maybe(bytes.fromhex, data.get("jkt")),
        encryption=TokenEncryption(data.get("encryption", TokenEncryption.NONE)),
        key_id=KeyId(data["key"]),
        latest=data["latest"],
        parent=data["parent"],
        refresh_time=maybe(moment, data.get("refresh")),
        rotate_times={int(n): moment(t) for n, t in data["times"].items()},
    )


def encode_event(event: AuditEvent) -> str:
    """Return the event as JSON text."""
    return dumps(
        {
            "type": event.type,
            "outcome": event.outcome,
            "actor": event.actor,
            "target": event.target,
            "peer": event.peer,
            "request": event.request_id,
            "reason": event.reason,
            "details": dict(event.details),
        }
    )


def decode_event(text: str) -> AuditEvent:
    """Return the event of a JSON text. Raises ValueError, KeyError or TypeError if it is unknown."""
    data = json.loads(text)
    return AuditEvent(
        type=AuditType(data["type"]),
        outcome=AuditOutcome(data["outcome"]),
        actor=data["actor"],
        target=data["target"],
        peer=data["peer"],
        request_id=data["request"],
        reason=data["reason"],
        details=data["details"],
    )


# Changes. A process decodes up to a million of them at its start, so decoding is written for speed.

_raw_decode: Final = json.JSONDecoder().raw_decode
"""A JSON decoder that takes half the time of `json.loads` for a text as short as a change."""
_end: Final = lru_cache(maxsize=4096)(moment)
"""A cached conversion of the ends of denials. They are whole minutes, so many denials share one."""


def encode_change(change: Change) -> str:
    """Return the change as JSON text."""
    match change:
        case TokenDenied():
            return dumps({"k": "deny", "id": change.token_id, "until": seconds(change.deny_until)})
        case SessionEnded():
            until, end = seconds(change.deny_until), seconds(change.end_until)
            return dumps({"k": "end", "id": change.session_id, "until": until, "end": end})
        case GenerationRaised():
            origin = {"origin": change.origin} if change.origin is not None else {}
            return dumps({"k": "gen", "id": change.principal, **origin, "number": change.number})
        case RecordChanged():
            return dumps({"k": "record", "id": change.id, "kind": change.kind})


def decode_change(text: str) -> Change:
    """Return the change of a JSON text. Raises ValueError, KeyError or TypeError if it is unknown."""
    data: dict[str, Any]
    data, length = _raw_decode(text)
    if length != len(text):
        raise ValueError("a change with text after its end: written by a newer version?")
    match data["k"]:
        case "deny":
            return TokenDenied(token_id=data["id"], deny_until=_end(data["until"]))
        case "end":
            return SessionEnded(
                session_id=data["id"], deny_until=_end(data["until"]), end_until=moment(data["end"])
            )
        case "gen":
            return GenerationRaised(
                principal=data["id"], number=int(data["number"]), origin=data.get("origin")
            )
        case "record":
            return RecordChanged(kind=RecordKind(data["kind"]), id=data["id"])
        case other:
            raise ValueError(f"unknown change {other!r}: written by a newer version?")


# The fence of a store that was moved


def encode_fence(fence: Fence) -> str:
    """Return the fence as JSON text."""
    return dumps({"target": fence.target, "epoch": fence.epoch})


def decode_fence(text: str, where: str) -> Fence | None:
    """Return the fence, or None for an empty text. Raises StoreDamagedError, which names `where`."""
    if not text:
        return None
    with reading(where, "holds a fence that this version does not know"):
        data = json.loads(text)
        return Fence(target=str(data["target"]), epoch=Epoch(data["epoch"]))


def fence_error(text: str, where: str) -> StoreUnavailableError:
    """Return the error that a write to a store with this fence raises.

    That is StoreFencedError, or StoreDamagedError if the fence cannot be read.
    """
    try:
        fence = decode_fence(text, where)
    except StoreDamagedError as error:
        return error
    return StoreFencedError(fence.target if fence is not None else "another one")
