"""Changes as JSON text and back: what both stores put into the entries of their logs.

An unknown kind of change raises ValueError: a log written by a newer version is not guessed at. A
process reads a million of them before it serves, so what is called here for each is chosen for speed.
"""

import json
from functools import lru_cache
from typing import Any, Final

from identity_service.domain.log import (
    Change,
    GenerationRaised,
    RecordChanged,
    RecordKind,
    SessionEnded,
    TokenDenied,
)
from identity_service.storage.codec import dumps, moment, seconds

_raw_decode: Final = json.JSONDecoder().raw_decode
"""`json.loads` takes twice as long for a text as short as a change."""
_end: Final = lru_cache(maxsize=4096)(moment)
"""Denials end at whole minutes, so that many share theirs."""


def encode_change(change: Change) -> str:
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
    data: dict[str, Any]
    data, length = _raw_decode(text)
    if length != len(text):
        raise ValueError("a change with something behind it: written by a newer version?")
    match data["k"]:
        case "deny":
            return TokenDenied(token_id=data["id"], deny_until=_end(data["until"]))
        case "end":
            return SessionEnded(
                session_id=data["id"],
                deny_until=_end(data["until"]),
                end_until=moment(data["end"]),
            )
        case "gen":
            return GenerationRaised(
                principal=data["id"],
                number=int(data["number"]),
                origin=data.get("origin"),
            )
        case "record":
            return RecordChanged(kind=RecordKind(data["kind"]), id=data["id"])
        case other:
            raise ValueError(f"unknown change {other!r}: written by a newer version?")
