"""The codec of the items of a backup: JSON text, by the codecs of records, changes and times.

An unknown kind of item raises ValueError. So do sessions and audit events, which a backup does not hold.
"""

import json
from datetime import timedelta
from typing import Final

from identity_service.domain.copying import (
    CopiedEvent,
    CopiedGeneration,
    CopiedItem,
    CopiedMarks,
    CopiedRecord,
    CopiedSession,
    CopiedUse,
    RecordDeleted,
)
from identity_service.domain.ids import Link, PrincipalId
from identity_service.domain.log import Generation, RecordKind, SessionEnded, TokenDenied
from identity_service.domain.records import RECORD_TYPES, Record, kind_of
from identity_service.storage.codec import (
    Json,
    decode_change,
    decode_marks,
    dumps,
    encode_change,
    encode_marks,
    moment,
    seconds,
)
from identity_service.storage.record_codec import decode_record, encode_record

_MARKS: Final = ("lifetime", "session", "leeway", "time", "latest")
"""The names of the numbers that `encode_marks` returns."""


def encode_item(item: CopiedItem) -> str:
    """Return the item as a JSON object. Raises ValueError for a session or an audit event."""
    match item:
        case CopiedMarks():
            marks = dict(zip(_MARKS, encode_marks(item.marks), strict=True))
            return dumps({"k": "marks", **marks, "retention": item.retention.total_seconds()})
        case CopiedGeneration(principal=principal, generation=generation):
            number, link = generation.number, generation.link
            return dumps({"k": "gen", "id": principal, "number": number, "link": link})
        case TokenDenied() | SessionEnded():
            return encode_change(item)
        case CopiedRecord(record=record):
            return f'{{"k":"record","kind":"{kind_of(type(record))}","value":{encode_record(record)}}}'
        case RecordDeleted(kind=kind, id=id_):
            return dumps({"k": "gone", "kind": kind, "id": id_})
        case CopiedUse(key=key, until=until):
            return dumps({"k": "use", "id": key, "until": seconds(until)})
        case CopiedSession() | CopiedEvent():
            raise ValueError("a backup holds no sessions and no audit events")


def decode_item(data: Json) -> CopiedItem:
    """Return the item. Raises ValueError, KeyError or TypeError if this version does not know it."""
    match data["k"]:
        case "marks":
            marks = decode_marks(*(data[name] for name in _MARKS))
            return CopiedMarks(marks=marks, retention=timedelta(seconds=data["retention"]))
        case "gen":
            generation = Generation(number=int(data["number"]), link=Link(data["link"]))
            return CopiedGeneration(principal=PrincipalId(data["id"]), generation=generation)
        case "deny" | "end":
            change = decode_change(dumps(data))
            assert isinstance(change, TokenDenied | SessionEnded)  # noqa: S101  # the kinds name these two types
            return change
        case "record":
            kind = RECORD_TYPES[RecordKind(data["kind"])]
            record: Record = decode_record(kind, dumps(data["value"]))
            return CopiedRecord(record=record)
        case "gone":
            return RecordDeleted(kind=RecordKind(data["kind"]), id=data["id"])
        case "use":
            return CopiedUse(key=data["id"], until=moment(data["until"]))
        case other:
            raise ValueError(f"unknown item {other!r}: written by a newer version?")


def encode_items(items: list[str]) -> str:
    """Return the text of one part of a backup, from items that `encode_item` has encoded."""
    return f"[{','.join(items)}]"


def decode_items(text: str) -> list[CopiedItem]:
    """Return the items of one part of a backup. Raises ValueError, KeyError or TypeError."""
    return [decode_item(data) for data in json.loads(text)]
