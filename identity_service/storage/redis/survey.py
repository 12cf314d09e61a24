"""Looks at the server behind each new connection: reads how it is set up, admits it or not.

Owns what is asked of it, in one round trip. Knows nothing of how the answers are judged.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import redis

from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.ports import Clock, Journal
from identity_service.storage.redis.checks import Demands, Finding, ServerSetup, judge_all
from identity_service.storage.redis.durability import Confirmation, confirmation_of
from identity_service.storage.redis.node import pack
from identity_service.storage.redis.pool import Wire

_SETTINGS: Final = (
    "maxmemory-policy",
    "appendonly",
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "save",
    "min-replicas-to-write",
    "min-replicas-max-lag",
)
# One by one: before Redis 7 the command takes one name.
_QUESTIONS: Final = (("INFO",), ("TIME",), *(("CONFIG", "GET", name) for name in _SETTINGS))


class Gate:
    """Admits a server that meets the demands; each that does not is one line in the journal.

    It is asked at every connection, not once: behind one address another server may stand by now, or
    the same one with another set-up.
    """

    def __init__(self, demands: Callable[[], Demands], clock: Clock | None, journal: Journal | None) -> None:
        """`demands` is asked each time: in a cluster they depend on what lies on the server."""
        self._demands = demands
        self._clock = clock
        self._journal = journal
        self._reporting = threading.Lock()
        self._reported: Sequence[Finding] = ()

    def admit(self, wire: Wire) -> Confirmation | None:
        """What confirms a write on this server. Raises UnsafeServerError, and what `redis` raises."""
        demands = self._demands()
        setup = read_setup(wire, self._clock)
        findings = judge_all(setup, demands)
        self._report(findings)
        refused = [finding.what for finding in findings if finding.severity == "refuse"]
        if refused and demands.insist:
            raise UnsafeServerError(f"Redis is not set up safely: {'; '.join(refused)}")
        return confirmation_of(demands.durability, fsync=setup.fsync, version=setup.version)

    def _report(self, findings: Sequence[Finding]) -> None:
        with self._reporting:
            if [f.what for f in findings] == [f.what for f in self._reported]:
                return
            mended, self._reported = bool(self._reported) and not findings, findings
        if self._journal is None:
            return
        for finding in findings:
            event = "store_refused" if finding.severity == "refuse" else "store_warning"
            self._journal.record(event, what=finding.what, fix=finding.fix)
        if mended:
            self._journal.record("store_mended")


class UnsafeServerError(StoreUnavailableError):
    """There is a server, and it would break what the operator was promised."""


def read_setup(wire: Wire, clock: Clock | None = None) -> ServerSetup:
    """By CONFIG GET; where that is forbidden or does not exist (managed servers), what INFO says.

    Raises what `redis` raises where the server cannot be asked.
    """
    before = clock.now() if clock else None
    wire.send_packed_command([b"".join(pack(*question) for question in _QUESTIONS)])
    info_text, time, *settings = [_permitted(wire) for _ in _QUESTIONS]
    after = clock.now() if clock else None
    info = _info(info_text or "")
    config: dict[str, str] = {}
    for answer in settings:
        config.update(zip((answer or [])[::2], (answer or [])[1::2], strict=True))
    aof = _yes(config.get("appendonly"), "yes")
    return ServerSetup(
        version=info.get("redis_version"),
        role=info.get("role"),
        eviction=config.get("maxmemory-policy", info.get("maxmemory_policy")),
        append_only=_yes(info.get("aof_enabled"), "1") if aof is None else aof,
        fsync=config.get("appendfsync"),
        skips_fsync=_yes(config.get("no-appendfsync-on-rewrite"), "yes"),
        save=config.get("save"),
        replicas=_number(info.get("connected_slaves")),
        min_replicas=_number(config.get("min-replicas-to-write")),
        min_replicas_lag=_number(config.get("min-replicas-max-lag")),
        skew=_skew(before, time, after),
    )


def _permitted(wire: Wire) -> Any | None:
    """The next answer, or None where the server refuses to give it."""
    try:
        return wire.read_response()
    except redis.ResponseError:
        return None


def _info(text: str) -> Mapping[str, str]:
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name: value.strip() for name, value in pairs}


def _skew(before: datetime | None, time: Sequence[str] | None, after: datetime | None) -> timedelta | None:
    """How far the server's clock lies outside of what this process saw meanwhile."""
    if before is None or after is None or time is None:
        return None
    theirs = datetime.fromtimestamp(int(time[0]), UTC) + timedelta(microseconds=int(time[1]))
    return max(before - theirs, theirs - after, timedelta(0))


def _yes(value: str | None, yes: str) -> bool | None:
    return None if value is None else value == yes


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdecimal() else None
