"""Counts the items of a copy, and remembers them, so that two copies can be compared.

The module knows no store and no file.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
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
from identity_service.domain.log import Generation, RecordKind, SessionEnded, TokenDenied
from identity_service.domain.records import kind_of

_FOREVER: Final = math.inf


class Tally:
    """The items of a copy that were seen. Each thing counts once, however often the copy repeats it."""

    def __init__(self) -> None:
        self._held: dict[int, float] = {}
        """A map from the hash of a thing's kind and id, which saves memory, to the time at which the thing
        may be forgotten (Unix seconds)."""
        self._generations: dict[str, Generation] = {}
        self._counts: Counter[str] = Counter()

    def watching(self, items: Iterable[CopiedItem]) -> Iterator[CopiedItem]:
        """Yield the items, and count them."""
        for item in items:
            self.add(item)
            yield item

    def add(self, item: CopiedItem) -> None:
        """Count one item."""
        match item:
            case CopiedMarks():
                pass
            case CopiedEvent():
                self._counts["audit_events"] += 1
            case CopiedGeneration(principal=principal, generation=generation):
                self._generations[principal] = generation
            case RecordDeleted(kind=kind, id=id_):
                if self._held.pop(hash((kind, id_)), None) is not None:
                    self._counts[kind] -= 1
            case _:
                kind_, id_, until = _described(item)
                name = hash((kind_, id_))
                self._counts[kind_] += name not in self._held
                self._held[name] = until

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of things of each kind, including kinds of which there are none."""
        generations = {"generations": len(self._generations)}
        return generations | {label: self._counts[kind] for kind, label in _LABELS.items()}

    def missing_in(self, other: "Tally", now: datetime) -> int:
        """Return the number of things that the other copy lacks and that must still be kept at `now`."""
        moment = now.timestamp()
        return sum(not other.has(name) for name, until in self._held.items() if until > moment) + sum(
            other.generation_of(principal) != generation
            for principal, generation in self._generations.items()
        )

    def has(self, name: int) -> bool:
        """Return whether a thing with this hash of kind and id was seen."""
        return name in self._held

    def generation_of(self, principal: str) -> Generation | None:
        """Return the generation of a principal that was seen last, or None."""
        return self._generations.get(principal)


_LABELS: Final[Mapping[str, str]] = {
    RecordKind.CLIENT: "clients",
    RecordKind.USER: "users",
    RecordKind.KEY: "keys",
    RecordKind.ISSUER: "trusted_issuers",
    "denial": "denied_tokens",
    "end": "ended_sessions",
    "use": "used_ids",
    "session": "sessions",
    "audit_events": "audit_events",
}


def _described(
    item: TokenDenied | SessionEnded | CopiedRecord | CopiedUse | CopiedSession,
) -> tuple[str, str, float]:
    """Return the kind and id of an item, and the time at which it may be forgotten (Unix seconds)."""
    match item:
        case TokenDenied(token_id=token_id, deny_until=until):
            return "denial", token_id, until.timestamp()
        case SessionEnded(session_id=session_id, end_until=until):
            return "end", session_id, until.timestamp()
        case CopiedRecord(record=record):
            return kind_of(type(record)), record.id, _FOREVER
        case CopiedUse(key=key, until=until):
            return "use", key, until.timestamp()
        case CopiedSession(session=session):
            return "session", session.session_id, session.expire_time.timestamp()
