"""Checks of the configuration of a Redis server against the operator's demands, with the remedies.

Pure functions without a connection: `server_probe.py` reads the configuration. Nothing on the server is
changed.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final, Literal

_MIN_VERSION: Final = (6, 2)
_REPLICAS: Final = re.compile(r"replicas:([1-9][0-9]?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A problem of a Redis server that the operator should know of."""

    severity: Literal["refuse", "warn"]
    """The severity: `refuse` = the server must not be used."""
    what: str
    """The problem and its consequence."""
    fix: str
    """The remedy, usually a command for `redis-cli`."""


_refusal: Final = partial(Finding, severity="refuse")
_warning: Final = partial(Finding, severity="warn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """The requirements that a Redis server must meet, from the operator's settings."""

    durability: str = "unsynced"
    """The setting `durability`: unsynced, local or replicas:N."""
    allow_unsafe: bool = False
    """True = accept a server that may evict keys, with a warning."""
    max_staleness: timedelta = timedelta(seconds=5)
    """The longest permitted `min-replicas-max-lag`, with failover."""
    leeway: timedelta = timedelta(seconds=10)
    """The longest difference between the clocks of the server and of this process without a warning."""
    config_unchecked: bool = False
    """True = accept a server that refuses CONFIG GET or INFO: the operator is responsible for the values that
    cannot be read."""
    insist: bool = True
    """True = refuse a server that does not meet the demands; False = only report it, as for `identity
    init`."""
    failover: bool = False
    """True if another server may be promoted in place of this one: with Sentinel or a cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSetup:
    """The configuration and state of a server as it reports them; None = it does not report the value."""

    version: str | None = None
    """The value of `redis_version`."""
    role: str | None = None
    """The value of `role`: master or slave."""
    eviction: str | None = None
    """The value of `maxmemory-policy`."""
    append_only: bool | None = None
    """True if there is an append-only file that holds all data."""
    writes_fail: bool | None = None
    """True if the last write to that file failed (`aof_last_write_status`)."""
    rewriting: bool | None = None
    """True if the append-only file is being rewritten, or a rewrite is scheduled."""
    waitaof: bool | None = False
    """True if WAITAOF exists and this user may call it; None = it exists, but the user may not call it."""
    fsync: str | None = None
    """The value of `appendfsync`."""
    skips_fsync: bool | None = None
    """The value of `no-appendfsync-on-rewrite`: if True, nothing is synced while a child process writes a
    file."""
    save: str | None = None
    """The value of `save`, the rule for snapshots; empty = none are taken."""
    replicas: int | None = None
    """The number of connected replicas (`connected_slaves`)."""
    min_replicas: int | None = None
    """The value of `min-replicas-to-write`."""
    min_replicas_lag: int | None = None
    """The value of `min-replicas-max-lag` in seconds; 0 = the lag is not checked."""
    skew: timedelta | None = field(default=None, compare=False)
    """The least possible difference between its clock and that of this process."""


def replicas_of(durability: str) -> int:
    """Return the number of replicas that must have a write: N for `replicas:N`, otherwise 0.

    Raises ValueError if the text is not unsynced, local or replicas:N with N from 1 to 99.
    """
    if durability in ("unsynced", "local"):
        return 0
    named = _REPLICAS.fullmatch(durability)
    if named is None:
        raise ValueError("must be unsynced, local or replicas:N with N from 1 to 99")
    return int(named[1])


def judge(setup: ServerSetup, demands: Demands) -> Sequence[Finding]:
    """Return the findings against these demands in the configuration, refusals first."""
    findings = [
        *_judge_role(setup),
        *_judge_version(setup),
        *_judge_eviction(setup, allow_unsafe=demands.allow_unsafe),
        *_judge_durability(setup, demands.durability),
        *_judge_failover(setup, demands),
        *_judge_clock(setup, demands),
        *_judge_unreadable(setup, demands),
    ]
    return sorted(findings, key=lambda finding: finding.severity != "refuse")


def _judge_role(setup: ServerSetup) -> Iterator[Finding]:
    if setup.role not in (None, "master"):
        yield _refusal(
            what="this Redis is a replica: it accepts no writes, and its data may be out of date",
            fix="name the primary in `store`, or let redis+sentinel:// find it",
        )


def _judge_version(setup: ServerSetup) -> Iterator[Finding]:
    known = _version_of(setup.version)
    if known and known < _MIN_VERSION:
        yield _refusal(what=f"Redis {known[0]} is too old", fix="install Redis 6.2 or newer")


def _version_of(version: str | None) -> tuple[int, int] | None:
    """Return the major and minor version from `redis_version`, or None if it is not known."""
    known = re.match(r"(\d+)\.(\d+)", version or "")
    return (int(known[1]), int(known[2])) if known else None


def _judge_eviction(setup: ServerSetup, *, allow_unsafe: bool) -> Iterator[Finding]:
    if setup.eviction not in (None, "noeviction"):
        yield Finding(
            severity="warn" if allow_unsafe else "refuse",
            what=f"Redis may evict keys (maxmemory-policy {setup.eviction}): a revocation could be forgotten",
            fix="run `CONFIG SET maxmemory-policy noeviction` and `CONFIG REWRITE`",
        )


def _judge_durability(setup: ServerSetup, durability: str) -> Iterator[Finding]:
    if durability == "local":
        yield from _judge_disk(setup)
        return
    if setup.append_only is False and setup.save == "":
        yield _warning(
            what="this Redis keeps nothing on disk: a restart loses the whole store",
            fix="run `CONFIG SET appendonly yes` and `CONFIG REWRITE`",
        )
    wanted = replicas_of(durability)
    if setup.replicas is not None and setup.replicas < wanted:
        yield _warning(
            what=f"durability `{durability}` needs {wanted} connected replicas, and this Redis has "
            f"{setup.replicas}: no write can be confirmed",
            fix="start a replica and run `REPLICAOF <host> <port>` on it, or lower durability",
        )


def _judge_disk(setup: ServerSetup) -> Iterator[Finding]:
    waits = setup.fsync == "everysec" and bool(setup.waitaof)
    wrong = [
        setting
        for setting, is_wrong in (
            ("appendonly yes", setup.append_only is False),
            ("appendfsync always", setup.fsync not in (None, "always") and not waits),
            ("no-appendfsync-on-rewrite no", setup.skips_fsync is True),
        )
        if is_wrong
    ]
    if wrong:
        commands = ", ".join(f"`CONFIG SET {setting}`" for setting in wrong)
        yield _refusal(
            what="durability `local` needs each write on disk, and this Redis does not put each one there",
            fix=f"run {commands} and `CONFIG REWRITE`, "
            'or set durability = "unsynced" and accept that a crash of Redis loses revocations',
        )
    elif setup.waitaof is None:
        yield _refusal(
            what="WAITAOF is not permitted, so durability `local` cannot be confirmed",
            fix="allow it in the ACL: `ACL SETUSER <name> +waitaof`",
        )
    elif setup.writes_fail:
        yield _refusal(
            what="Redis cannot write its append-only file (aof_last_write_status err)",
            fix="free space on its disk; the log of Redis says why",
        )
    elif waits:
        yield _warning(
            what="appendfsync everysec: each revocation waits up to a second or two for the disk (WAITAOF)",
            fix="run `CONFIG SET appendfsync always` and `CONFIG REWRITE`",
        )


def _judge_failover(setup: ServerSetup, demands: Demands) -> Iterator[Finding]:
    if not demands.failover:
        return
    longest = int(demands.max_staleness.total_seconds())
    if setup.min_replicas == 0:
        yield _refusal(
            what="a primary that is cut off would continue to accept writes, which the failover loses",
            fix=f"run `CONFIG SET min-replicas-to-write 1`, `CONFIG SET min-replicas-max-lag {longest}` and "
            "`CONFIG REWRITE` on every server",
        )
    elif setup.min_replicas_lag is not None and not 0 < setup.min_replicas_lag <= longest:
        yield _refusal(
            what=f"min-replicas-max-lag {setup.min_replicas_lag} is not within max_staleness ({longest} s)",
            fix=f"run `CONFIG SET min-replicas-max-lag {longest}` and `CONFIG REWRITE` on every server",
        )


def _judge_clock(setup: ServerSetup, demands: Demands) -> Iterator[Finding]:
    if setup.skew is not None and setup.skew > demands.leeway:
        yield _warning(
            what=f"the clock of Redis differs by {setup.skew.total_seconds():.0f} s: while it is more than "
            "leeway, every call is UNAVAILABLE",
            fix="run NTP on both machines",
        )


def _judge_unreadable(setup: ServerSetup, demands: Demands) -> Iterator[Finding]:
    severity: Literal["refuse", "warn"] = "warn" if demands.config_unchecked else "refuse"
    otherwise = (
        "" if demands.config_unchecked else ", or set redis_config_unchecked = true and ensure it yourself"
    )
    if setup.fsync is None:
        yield Finding(
            severity=severity,
            what=f"CONFIG GET is not permitted, so {_unreadable_settings(setup, demands)} cannot be checked",
            fix="allow it in the ACL: `ACL SETUSER <name> +config|get` (before Redis 7: `+config`)"
            + otherwise,
        )
    if setup.version is None:
        yield Finding(
            severity=severity,
            what="INFO is not permitted, so version and role cannot be checked",
            fix="allow it in the ACL: `ACL SETUSER <name> +info`" + otherwise,
        )


def _unreadable_settings(setup: ServerSetup, demands: Demands) -> str:
    """Return the names of the settings that the demands need and that neither CONFIG nor INFO reports."""
    names = [] if setup.eviction is not None else ["maxmemory-policy"]
    if demands.durability == "local":
        names += [] if setup.append_only is not None else ["appendonly"]
        names += ["appendfsync", "no-appendfsync-on-rewrite"]
    if demands.failover:
        names += ["min-replicas-to-write", "min-replicas-max-lag"]
    return ", ".join(names) or "its set-up"
