"""Whether a Redis server is set up for what the operator asks of it. Changes nothing on the server."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from identity_service.storage.redis.connection import Connection

_MIN_VERSION: Final = (6, 2)
_SETTINGS: Final = ("maxmemory-policy", "appendonly", "appendfsync", "no-appendfsync-on-rewrite", "save")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about the store that the operator should know."""

    severity: Literal["refuse", "warn"]
    what: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSetup:
    """How a server says that it is set up; None = it does not tell."""

    version: str | None = None
    eviction: str | None = None
    """`maxmemory-policy`."""
    append_only: bool | None = None
    fsync: str | None = None
    """`appendfsync`."""
    skips_fsync: bool | None = None
    """`no-appendfsync-on-rewrite`: nothing is synced while a child process writes."""
    save: str | None = None
    """When snapshots are taken; empty = never."""


def check_server(connection: Connection, durability: str, *, allow_unsafe: bool) -> Sequence[Finding]:
    """What goes against this durability, worst first.

    Raises StoreUnavailableError where the server cannot be asked.
    """
    return judge(read_setup(connection), durability, allow_unsafe=allow_unsafe)


def read_setup(connection: Connection) -> ServerSetup:
    """By CONFIG GET; where that is forbidden or does not exist (managed servers), what INFO says."""
    info = _info(connection.permitted("INFO") or "")
    config: dict[str, str] = {}
    for name in _SETTINGS:
        answer = connection.permitted("CONFIG", "GET", name) or []
        config.update(zip(answer[::2], answer[1::2], strict=True))
    aof = _yes(config.get("appendonly"), "yes")
    return ServerSetup(
        version=info.get("redis_version"),
        eviction=config.get("maxmemory-policy", info.get("maxmemory_policy")),
        append_only=_yes(info.get("aof_enabled"), "1") if aof is None else aof,
        fsync=config.get("appendfsync"),
        skips_fsync=_yes(config.get("no-appendfsync-on-rewrite"), "yes"),
        save=config.get("save"),
    )


def judge(setup: ServerSetup, durability: str, *, allow_unsafe: bool) -> Sequence[Finding]:
    """What of this set-up goes against this durability, worst first."""
    findings = [
        *_judge_version(setup),
        *_judge_eviction(setup, allow_unsafe=allow_unsafe),
        *_judge_durability(setup, durability),
        *_judge_silence(setup),
    ]
    return sorted(findings, key=lambda finding: finding.severity != "refuse")


def _judge_version(setup: ServerSetup) -> Iterator[Finding]:
    known = re.match(r"(\d+)\.(\d+)", setup.version or "")
    if known and (int(known[1]), int(known[2])) < _MIN_VERSION:
        yield Finding(
            severity="refuse",
            what=f"Redis {known[0]} is too old",
            fix="install Redis 6.2 or newer",
        )


def _judge_eviction(setup: ServerSetup, *, allow_unsafe: bool) -> Iterator[Finding]:
    if setup.eviction not in (None, "noeviction"):
        yield Finding(
            severity="warn" if allow_unsafe else "refuse",
            what=f"Redis may evict keys (maxmemory-policy {setup.eviction}): a revocation could be forgotten",
            fix="run `CONFIG SET maxmemory-policy noeviction` and `CONFIG REWRITE`",
        )


def _judge_durability(setup: ServerSetup, durability: str) -> Iterator[Finding]:
    if durability == "unsynced":
        if setup.append_only is False and setup.save == "":
            yield Finding(
                severity="warn",
                what="this Redis keeps nothing on disk: a restart loses the whole store",
                fix="run `CONFIG SET appendonly yes` and `CONFIG REWRITE`",
            )
        return
    wrong = [
        setting
        for setting, is_wrong in (
            ("appendonly yes", setup.append_only is False),
            ("appendfsync always", setup.fsync not in (None, "always")),
            ("no-appendfsync-on-rewrite no", setup.skips_fsync is True),
        )
        if is_wrong
    ]
    if wrong:
        commands = ", ".join(f"`CONFIG SET {setting}`" for setting in wrong)
        yield Finding(
            severity="refuse",
            what=f"durability `{durability}` needs each write on disk, and this Redis does not put it there",
            fix=f"run {commands} and `CONFIG REWRITE`, "
            'or set durability = "unsynced" and accept that a crash of Redis loses revocations',
        )


def _judge_silence(setup: ServerSetup) -> Iterator[Finding]:
    if setup.fsync is None:
        yield Finding(
            severity="warn",
            what="CONFIG GET is not permitted, so persistence is not checked (eviction only by INFO)",
            fix="allow it in the ACL: `ACL SETUSER <name> +config|get` (before Redis 7: `+config`)",
        )
    if setup.version is None:
        yield Finding(
            severity="warn",
            what="INFO is not permitted, so the version is not checked",
            fix="allow it in the ACL: `ACL SETUSER <name> +info`",
        )


def _info(text: str) -> Mapping[str, str]:
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name: value.strip() for name, value in pairs}


def _yes(value: str | None, yes: str) -> bool | None:
    return None if value is None else value == yes
