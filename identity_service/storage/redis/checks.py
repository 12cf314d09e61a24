"""Whether a Redis server is set up for what the operator asks of it. Changes nothing on the server."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from identity_service.domain.errors import StoreUnavailableError
from identity_service.storage.redis.connection import Connection

_MIN_VERSION: Final = (6, 2)
_SETTINGS: Final = ("maxmemory-policy", "appendonly", "appendfsync", "save")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about the store that the operator should know."""

    severity: Literal["refuse", "warn"]
    what: str
    fix: str


def check_server(connection: Connection, durability: str, *, allow_unsafe: bool) -> Sequence[Finding]:
    """What goes against this durability, worst first.

    Raises StoreUnavailableError where the server cannot be asked.
    """
    findings = [*_check_version(connection)]
    try:
        config = {name: _config(connection, name) for name in _SETTINGS}
    except StoreUnavailableError:
        connection.command("PING")  # away altogether is another matter than forbidden
        return [
            *findings,
            Finding(
                severity="warn",
                what="CONFIG GET is not permitted, so eviction and persistence are not checked",
                fix="allow it in the ACL: `ACL SETUSER <name> +config|get`",
            ),
        ]
    findings += [*_check_eviction(config, allow_unsafe=allow_unsafe), *_check_durability(config, durability)]
    return sorted(findings, key=lambda finding: finding.severity)


def _check_version(connection: Connection) -> Iterator[Finding]:
    info: Mapping[str, Any] = connection.command("INFO", "server")
    version = str(info.get("redis_version", "0.0"))
    if tuple(int(part) for part in version.split(".")[:2]) < _MIN_VERSION:
        yield Finding(severity="refuse", what=f"Redis {version} is too old", fix="install Redis 6.2 or newer")


def _check_eviction(config: Mapping[str, str], *, allow_unsafe: bool) -> Iterator[Finding]:
    policy = config["maxmemory-policy"]
    if policy != "noeviction":
        yield Finding(
            severity="warn" if allow_unsafe else "refuse",
            what=f"Redis may evict keys (maxmemory-policy {policy}): a revocation could be forgotten",
            fix="run `CONFIG SET maxmemory-policy noeviction` and `CONFIG REWRITE`",
        )


def _check_durability(config: Mapping[str, str], durability: str) -> Iterator[Finding]:
    synced = config["appendonly"] == "yes" and config["appendfsync"] == "always"
    if durability == "local" and not synced:
        yield Finding(
            severity="refuse",
            what="durability `local` needs each write on disk, and this Redis does not put it there",
            fix="run `CONFIG SET appendonly yes`, `CONFIG SET appendfsync always` and `CONFIG REWRITE`, "
            'or set durability = "unsynced" and accept that a crash of Redis loses revocations',
        )
    if durability == "unsynced" and config["appendonly"] != "yes" and not config["save"]:
        yield Finding(
            severity="warn",
            what="this Redis keeps nothing on disk: a restart loses the whole store",
            fix="run `CONFIG SET appendonly yes` and `CONFIG REWRITE`",
        )


def _config(connection: Connection, name: str) -> str:
    answer: Mapping[str, str] = connection.command("CONFIG GET", name)
    return answer.get(name, "")
