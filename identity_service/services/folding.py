"""Folding: how many events of one type and one address are written one by one; the rest are counted.

How many events there are that no change carries is for the callers to choose. So in a window of ten seconds
only the first events of an address, a type and a reason are written as they are. What follows within the
window is counted, and when the window has ended one event says how many there were. Knows no log, no store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from identity_service.domain.audit import AuditEvent, AuditOutcome, AuditType
from identity_service.domain.ports import Clock
from identity_service.services.attempts import address_of

WINDOW: Final = 10.0
"""Seconds from the first event of a key, during which events of this key are counted together."""
_PEERS: Final = 1024
"""Peers whose address is remembered: a connection brings many calls, and to parse an address takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldRule:
    """How much of one outcome is written in one window."""

    whole: int
    """Events of one key that are written one by one."""
    keys: int
    """Keys that are counted apart; events of all further keys are counted together, by kind alone."""


REFUSED: Final = FoldRule(whole=20, keys=1000)
"""Anybody can have a call refused, so little of it is written."""
DONE_KEYS: Final = 10_000
"""A successful call takes a credential, and tells which token went to whom: see the setting `audit_burst`."""

_OTHERS: Final = "others"
_Key = tuple[str, AuditType, str]
"""Address, type and reason."""


@dataclass(slots=True)
class _Window:
    """What came of one key since its window began."""

    end: float
    first: AuditEvent
    """For what it has in common with all others of the key."""
    address: str | None
    """None = of more than one."""
    seen: int = 1
    folded: int = 0
    actor: str = ""
    """The actor and target of all that was folded; empty = of more than one."""
    target: str = ""

    def fold(self, event: AuditEvent) -> None:
        if not self.folded:
            self.actor, self.target = event.actor, event.target
        self.folded += 1
        if self.actor != event.actor:
            self.actor = ""
        if self.target != event.target:
            self.target = ""

    def summary(self) -> AuditEvent:
        details = {"folded": str(self.folded), "seconds": f"{WINDOW:.0f}"}
        if self.address is None:
            details["peers"] = _OTHERS
        return AuditEvent(
            type=self.first.type,
            outcome=self.first.outcome,
            actor=self.actor,
            target=self.target,
            peer=self.address or "",
            reason=self.first.reason if self.address is not None else "",
            details=details,
        )


class Folding:
    """Decides which events are written one by one. Not thread-safe: the caller holds a lock."""

    def __init__(self, clock: Clock, *, done: FoldRule, refused: FoldRule = REFUSED) -> None:
        self._clock = clock
        self._done, self._refused = _Windows(done), _Windows(refused)
        self._address_of = lru_cache(_PEERS)(address_of)

    @property
    def has_folded(self) -> bool:
        """Whether events were counted that no summary has told of."""
        return self._done.has_folded or self._refused.has_folded

    def admit(self, event: AuditEvent) -> bool:
        """Whether to write this event as it is; otherwise it was counted."""
        windows = self._done if event.outcome is AuditOutcome.DONE else self._refused
        return windows.admit(self._address_of(event.peer), event, self._clock.monotonic())

    def summaries(self, *, everything: bool = False) -> Sequence[AuditEvent]:
        """Tell once of what was folded in the windows that have ended; with `everything` in all of them."""
        now = float("inf") if everything else self._clock.monotonic()
        return [*self._done.summaries(now), *self._refused.summaries(now)]


class _Windows:
    """The windows of one outcome, so that refused calls take no key from successful ones."""

    def __init__(self, rule: FoldRule) -> None:
        self._rule = rule
        self._open: dict[_Key, _Window] = {}
        """In the order in which they end."""
        self._folding = 0
        """How many of them have folded something."""
        self._ended: list[AuditEvent] = []

    @property
    def has_folded(self) -> bool:
        return bool(self._folding or self._ended)

    def admit(self, address: str, event: AuditEvent, now: float) -> bool:
        key: _Key = (address, event.type, event.reason)
        window = self._open.get(key)
        if window is None or window.end <= now:
            self._close(now)
            shown: str | None = address
            if len(self._open) >= self._rule.keys:
                key, shown = (_OTHERS, event.type, ""), None
            window = self._open.get(key)
            if window is None:
                self._open[key] = _Window(end=now + WINDOW, first=event, address=shown)
                return True
        window.seen += 1
        if window.seen <= self._rule.whole:
            return True
        self._folding += not window.folded
        window.fold(event)
        return False

    def summaries(self, now: float) -> Sequence[AuditEvent]:
        self._close(now)
        ended, self._ended = self._ended, []
        return ended

    def _close(self, now: float) -> None:
        """Forget the windows that have ended, and keep what is to be told of them."""
        while self._open:
            key = next(iter(self._open))
            window = self._open[key]
            if window.end > now:
                return
            del self._open[key]
            if window.folded:
                self._folding -= 1
                self._ended.append(window.summary())
