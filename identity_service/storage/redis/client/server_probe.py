"""Looks at the server behind a connection: reads how it is set up, admits it or not.

Owns what is asked of it, in one round trip. Knows nothing of how the answers are judged, nor of how often
the server is looked at (`node.py`).
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import redis

from identity_service.domain.errors import UnsafeStoreError
from identity_service.domain.ports import Clock, EventLog
from identity_service.storage.redis.client.durability import Confirmation, confirmation_of
from identity_service.storage.redis.client.node import code_of, pack
from identity_service.storage.redis.client.pool import RawConnection
from identity_service.storage.redis.client.server_checks import Demands, Finding, ServerSetup, judge_all

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
_QUESTIONS: Final = (
    ("INFO",),
    ("TIME",),
    ("WAITAOF", 0, 0, 1),  # waits for nothing: it shows whether there is such a command, and may be called
    *(("CONFIG", "GET", name) for name in _SETTINGS),
)


class ServerProbe:
    """Admits a server that meets the demands; each that does not is one line in the journal.

    It is asked at every connection and again while the connection is in use: behind one address another
    server may stand by now, or the same one with another set-up.
    """

    def __init__(
        self, demands: Callable[[], Demands], clock: Clock | None, event_log: EventLog | None
    ) -> None:
        """`demands` is asked each time: in a cluster they depend on what lies on the server."""
        self._demands = demands
        self._clock = clock
        self._event_log = event_log
        self._reporting = threading.Lock()
        self._reported: Sequence[Finding] = ()
        self._file_was_off = False

    def admit(self, raw: RawConnection) -> Confirmation | None:
        """What confirms a write on this server. Raises UnsafeStoreError, and what `redis` raises."""
        demands = self._demands()
        setup = read_setup(raw, self._clock)
        if self._file_was_off and setup.rewriting:
            # Turned on again, the append-only file holds what there is only after it was written anew.
            setup = replace(setup, append_only=False)
        self._file_was_off = setup.append_only is False
        findings = judge_all(setup, demands)
        self._report(findings)
        refused = [f"{f.what} ({f.fix})" for f in findings if f.severity == "refuse"]
        if refused and demands.insist:
            raise UnsafeStoreError(f"Redis is not set up safely: {'; '.join(refused)}")
        # Who does not insist is not made to wait for a file that does not exist.
        return confirmation_of(
            demands.durability, waitaof=bool(setup.waitaof) and setup.append_only is not False
        )

    def _report(self, findings: Sequence[Finding]) -> None:
        with self._reporting:
            if [f.what for f in findings] == [f.what for f in self._reported]:
                return
            mended, self._reported = bool(self._reported) and not findings, findings
        if self._event_log is None:
            return
        for finding in findings:
            event = "store_refused" if finding.severity == "refuse" else "store_warning"
            self._event_log.record(event, what=finding.what, fix=finding.fix)
        if mended:
            self._event_log.record("store_mended")


def read_setup(raw: RawConnection, clock: Clock | None = None) -> ServerSetup:
    """By CONFIG GET and INFO; where the first is forbidden or unknown (managed servers), by INFO alone.

    Raises what `redis` raises where the server cannot be asked.
    """
    before = clock.now() if clock else None
    raw.send_packed_command([b"".join(pack(*question) for question in _QUESTIONS)])
    answers = [_answer(raw) for _ in _QUESTIONS]
    info_text, time, waitaof, *settings = [None if _is_refusal(answer) else answer for answer in answers]
    after = clock.now() if clock else None
    info = _info(info_text or "")
    config: dict[str, str] = {}
    for answer in settings:
        config.update(zip((answer or [])[::2], (answer or [])[1::2], strict=True))
    files = {_yes(config.get("appendonly"), "yes"), _yes(info.get("aof_enabled"), "1")}
    return ServerSetup(
        version=info.get("redis_version"),
        role=info.get("role"),
        eviction=config.get("maxmemory-policy", info.get("maxmemory_policy")),
        append_only=None if files == {None} else False not in files,
        writes_fail=_yes(info.get("aof_last_write_status"), "err"),
        rewriting="1" in (info.get("aof_rewrite_in_progress"), info.get("aof_rewrite_scheduled")),
        waitaof=True if waitaof is not None else None if code_of(answers[2]) == "NOPERM" else False,
        fsync=config.get("appendfsync"),
        skips_fsync=_yes(config.get("no-appendfsync-on-rewrite"), "yes"),
        save=config.get("save"),
        replicas=_number(info.get("connected_slaves")),
        min_replicas=_number(config.get("min-replicas-to-write")),
        min_replicas_lag=_number(config.get("min-replicas-max-lag")),
        skew=_skew(before, time, after),
    )


def _answer(raw: RawConnection) -> Any:
    """The next answer, possibly an error."""
    try:
        return raw.read_response()
    except redis.ResponseError as error:
        return error


def _is_refusal(answer: Any) -> bool:
    return isinstance(answer, redis.ResponseError)


def _info(text: str) -> Mapping[str, str]:
    pairs = (pooled.split(":", 1) for pooled in text.splitlines() if ":" in pooled)
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
