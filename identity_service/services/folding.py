"""Folding of audit events: the first of many similar events are recorded one by one, the rest are counted.

Callers decide how many events there are that record no change. So within a window of ten seconds, only the
first events of one address, type and reason are recorded. Further ones are counted, and when the window has
ended, one summary event reports their number. The module knows neither the log nor the store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from identity_service.domain.audit import AuditEvent, AuditOutcome, AuditType
from identity_service.domain.ports import Clock
from identity_service.services.attempts import address_of

WINDOW: Final = 10.0
"""The number of seconds, from the first event of a key on, in which events of this key are counted
together."""
_PEERS: Final = 1024
"""The number of peers whose parsed address is cached, since one connection makes many calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldRule:
    """The rule that limits how many events of one outcome (refused or done) are recorded in one window."""

    whole: int
    """The number of events of one key that are recorded one by one."""
    keys: int
    """The number of keys that have a window of their own; the events of all further keys share one window per
    type."""


REFUSED: Final = FoldRule(whole=20, keys=1000)
"""The rule for refused calls. Any caller can cause one, so few of them are recorded."""
DONE_KEYS: Final = 10_000
"""The `FoldRule.keys` for successful calls, for which `whole` is the setting `audit_burst`.

More of them are recorded, since they need a credential and say which principal got which token.
"""

_OTHERS: Final = "others"
_Key = tuple[str, AuditType, str]
"""The address, type and reason of an event."""


@dataclass(slots=True)
class _Window:
    """The events of one key since its window began."""

    end: float
    """The end of the window, in seconds by the monotonic clock."""
    first: AuditEvent
    """The first event; its type, outcome and reason are those of all events of the key."""
    address: str | None
    """The address; None = events of several addresses are counted together."""
    seen: int = 1
    folded: int = 0
    actor: str = ""
    """The actor of all folded events; empty = they have several."""
    target: str = ""
    """The target of all folded events; empty = they have several."""

    def fold(self, event: AuditEvent) -> None:
        """Count an event that is not recorded on its own."""
        if not self.folded:
            self.actor, self.target = event.actor, event.target
        self.folded += 1
        if self.actor != event.actor:
            self.actor = ""
        if self.target != event.target:
            self.target = ""

    def summary(self) -> AuditEvent:
        """Return the event that says how many events were folded, and what they have in common."""
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
    """A filter that decides which events are recorded one by one. It is not thread-safe."""

    def __init__(self, clock: Clock, *, done: FoldRule, refused: FoldRule = REFUSED) -> None:
        self._clock = clock
        self._done, self._refused = _Windows(done), _Windows(refused)
        self._address_of = lru_cache(_PEERS)(address_of)

    @property
    def has_folded(self) -> bool:
        """True if any events were counted that no summary has reported yet."""
        return self._done.has_folded or self._refused.has_folded

    def admit(self, event: AuditEvent) -> bool:
        """Return True if the caller should record this event; if not, the event was counted."""
        windows = self._done if event.outcome is AuditOutcome.DONE else self._refused
        return windows.admit(self._address_of(event.peer), event, self._clock.monotonic())

    def summaries(self, *, everything: bool = False) -> Sequence[AuditEvent]:
        """Return one summary for each window that has ended and folded events; each is returned once.

        With `everything`, all windows are ended first.
        """
        now = float("inf") if everything else self._clock.monotonic()
        return [*self._done.summaries(now), *self._refused.summaries(now)]


class _Windows:
    """The windows of one outcome, kept apart so that refused calls use no key of successful ones."""

    def __init__(self, rule: FoldRule) -> None:
        self._rule = rule
        self._open: dict[_Key, _Window] = {}
        """The open windows, in the order in which they end."""
        self._folding = 0
        """The number of open windows that have folded an event."""
        self._ended: list[AuditEvent] = []

    @property
    def has_folded(self) -> bool:
        """True if any events were counted that no summary has reported yet."""
        return bool(self._folding or self._ended)

    def admit(self, address: str, event: AuditEvent, now: float) -> bool:
        """Return True if the caller should record this event; if not, the event was counted."""
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
        """Return the summaries of the windows that have ended before `now`; each is returned once."""
        self._close(now)
        ended, self._ended = self._ended, []
        return ended

    def _close(self, now: float) -> None:
        """Remove the windows that have ended, and keep the summaries of those that have folded events."""
        while self._open:
            key = next(iter(self._open))
            window = self._open[key]
            if window.end > now:
                return
            del self._open[key]
            if window.folded:
                self._folding -= 1
                self._ended.append(window.summary())
