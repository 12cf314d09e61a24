"""The check of the server behind a connection: admits or refuses it because of its configuration.

This module owns the commands that read it, in one round trip. It does not know how the answers are judged
(`server_checks.py`), nor how often a server is checked (`node.py`).
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import redis

from identity_service.domain.errors import UnsafeStoreError
from identity_service.domain.ports import Clock, EventLog
from identity_service.storage.redis.client.node import answer_of, code_of, pack
from identity_service.storage.redis.client.pool import Confirmation, RawConnection
from identity_service.storage.redis.client.server_checks import (
    Demands,
    Finding,
    ServerSetup,
    judge,
    replicas_of,
)

_SETTINGS: Final = (
    "maxmemory-policy",
    "appendonly",
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "save",
    "min-replicas-to-write",
    "min-replicas-max-lag",
)
# One CONFIG GET for each name: before Redis 7 the command takes only one.
_QUESTIONS: Final = (
    ("INFO",),
    ("TIME",),
    ("WAITAOF", 0, 0, 1),  # waits for nothing: it shows whether the command exists and may be called
    *(("CONFIG", "GET", name) for name in _SETTINGS),
)


class ServerProbe:
    """The check that admits servers which meet the demands, and logs the findings about the others.

    It runs for every new connection, and again while the connection is in use: the address may lead to
    another server by now, or to the same one with another configuration.
    """

    def __init__(
        self, demands: Callable[[], Demands], clock: Clock | None, event_log: EventLog | None
    ) -> None:
        """Prepare the check.

        Args:
            demands: returns the demands; called for each check, since in a cluster they depend on which keys
                the server owns.
            clock: the clock of this process, compared with that of the server; None = they are not compared.
            event_log: receives the findings when they change; None = they are not logged.
        """
        self._demands = demands
        self._clock = clock
        self._event_log = event_log
        self._reporting = threading.Lock()
        self._reported: Sequence[Finding] = ()
        self._append_only_was_off = False

    def admit(self, raw: RawConnection) -> Confirmation | None:
        """Check the server, and return the command that confirms writes there (None = the answer itself).

        Raises UnsafeStoreError if the server does not meet the demands and `insist` is set, and the
        exceptions of redis-py.
        """
        demands = self._demands()
        setup = read_setup(raw, self._clock)
        if self._append_only_was_off and setup.rewriting:
            # After it was turned on again, the append-only file holds all data only once it was rewritten.
            setup = replace(setup, append_only=False)
        self._append_only_was_off = setup.append_only is False
        findings = judge(setup, demands)
        self._report(findings)
        refused = [f"{f.what} ({f.fix})" for f in findings if f.severity == "refuse"]
        if refused and demands.insist:
            raise UnsafeStoreError(f"Redis is not set up safely: {'; '.join(refused)}")
        # Without `insist` a server without an append-only file is used: WAITAOF would fail there.
        return _confirmation_of(
            demands.durability, waitaof=bool(setup.waitaof) and setup.append_only is not False
        )

    def _report(self, findings: Sequence[Finding]) -> None:
        with self._reporting:
            if [f.what for f in findings] == [f.what for f in self._reported]:
                return
            resolved, self._reported = bool(self._reported) and not findings, findings
        if self._event_log is None:
            return
        for finding in findings:
            event = "store_refused" if finding.severity == "refuse" else "store_warning"
            self._event_log.record(event, what=finding.what, fix=finding.fix)
        if resolved:
            self._event_log.record("store_mended")


def _confirmation_of(durability: str, *, waitaof: bool) -> Confirmation | None:
    """Return the command to send behind each write; None = the answer to the write confirms it.

    Args:
        durability: unsynced, local or replicas:N.
        waitaof: whether the server has WAITAOF, and this user may call it.
    """
    if replicas := replicas_of(durability):
        return Confirmation(command="WAIT", needed=replicas)
    # Also with `appendfsync always`, although Redis then answers after the sync: WAITAOF is an error as soon
    # as the append-only file is turned off, which the answer to the write would not show.
    if durability == "local" and waitaof:
        return Confirmation(command="WAITAOF", needed=1)
    return None


def read_setup(raw: RawConnection, clock: Clock | None = None) -> ServerSetup:
    """Read the configuration of a server with CONFIG GET and INFO.

    If CONFIG GET is forbidden or unknown, as on managed servers, INFO alone is used. The clocks are compared
    if `clock`, that of this process, is given. Raises the exceptions of redis-py if the server cannot be
    asked.
    """
    before = clock.now() if clock else None
    raw.send_packed_command([b"".join(pack(*question) for question in _QUESTIONS)])
    answers = [answer_of(raw) for _ in _QUESTIONS]
    info_text, time, waitaof, *settings = [
        None if isinstance(answer, redis.ResponseError) else answer for answer in answers
    ]
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


def _info(text: str) -> Mapping[str, str]:
    pairs = (pooled.split(":", 1) for pooled in text.splitlines() if ":" in pooled)
    return {name: value.strip() for name, value in pairs}


def _skew(before: datetime | None, time: Sequence[str] | None, after: datetime | None) -> timedelta | None:
    """Return how far the server's time lies outside the interval from `before` to `after`.

    These are the times of this process before and after the call, so the result is the least possible
    difference.
    """
    if before is None or after is None or time is None:
        return None
    theirs = datetime.fromtimestamp(int(time[0]), UTC) + timedelta(microseconds=int(time[1]))
    return max(before - theirs, theirs - after, timedelta(0))


def _yes(value: str | None, yes: str) -> bool | None:
    return None if value is None else value == yes


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdecimal() else None
