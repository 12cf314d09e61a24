"""Redis as the target of faults: keys are deleted, an older copy is restored, the server is reconfigured."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import redis

from identity_service.domain.log import RecordKind
from identity_service.domain.ports import EventLog
from identity_service.domain.store import Store
from identity_service.storage.codec import decode_change
from identity_service.storage.redis import RedisStore, keyspace
from identity_service.storage.redis.client.server_checks import Demands
from tests.machine.clocks import PartyClock
from tests.machine.facts import Kind
from tests.machine.stores import Held, spot
from tests.patience import until
from tests.redis_server import RedisServer

if TYPE_CHECKING:
    from tests.machine.site import Site

_PATTERNS: Final = {
    "head": "{idn}:log:head",
    "log": "{idn}:log",
    "fence": "{idn}:head",
    "generations": "{idn}:gen",
    "denial": "{idn}:deny:*",
    "end": "{idn}:ended:*",
    "session": "idn:s:*",
    "heartbeat": "{idn}:beat:*",
    "heartbeats": "{idn}:heartbeats",
    "audit": "{idn}:audit",
    "used": "{idn}:used:*",
    "request": "{idn}:request:*",
    "sessions": "{idn}:sessions:*",
    "client": "{idn}:client:*",
    "user": "{idn}:user:*",
    "key": "{idn}:key:*",
    "index": "{idn}:index:*",
    "names": "{idn}:usernames",
}
RIGHT: Final = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
WRONG: Final = {"appendonly": "no", "appendfsync": "no", "maxmemory-policy": "allkeys-lru"}


class RedisTarget:
    """A real Redis server, emptied for each example of Hypothesis."""

    name = "redis"
    kinds = (*_PATTERNS, "generation")
    has_clock = True

    def __init__(self, server: RedisServer, clock: PartyClock) -> None:
        self.server = server
        self._clock = clock
        server.start()
        self._client: Any = redis.Redis(port=server.port, decode_responses=False)
        for name, value in RIGHT.items():
            server.configure(name, value)
        server.flush()
        self._copy: dict[bytes, tuple[bytes, int]] = {}
        self._deleted: dict[str, dict[bytes, tuple[bytes, Any]]] = {}

    def open(self, clock: PartyClock, event_log: EventLog) -> Store:
        return RedisStore.connect(
            self.server.url, clock=self._clock, demands=Demands(durability="local"), event_log=event_log
        )

    def held(self) -> Held:
        held = Held()
        for _, fields in self._client.xrange(keyspace.LOG):
            held.fold(decode_change(fields[b"change"].decode()))
        prefixes = {keyspace.DENIALS: held.kept, keyspace.ENDS: held.kept}
        for prefix, found in prefixes.items():
            found |= {key.decode().removeprefix(prefix) for key in self._client.scan_iter(f"{prefix}*")}
        held.ended = {
            key.decode().removeprefix(keyspace.ENDS) for key in self._client.scan_iter(f"{keyspace.ENDS}*")
        }
        for key in self._client.scan_iter("idn:s:*"):
            if self._client.hexists(key, "ended"):
                held.ended.add(key.decode().removeprefix("idn:s:{").removesuffix("}"))
        for principal, text in self._client.hgetall(keyspace.GENERATIONS).items():
            held.generations[principal.decode()] = int(text.partition(b".")[0])
        return held

    def positions(self) -> Sequence[int]:
        return [int(id_.partition(b"-")[0]) for id_, _ in self._client.xrange(keyspace.LOG)]

    def head(self) -> tuple[str, int, str, int]:
        epoch, position, link, floor = self._client.hmget(keyspace.HEAD, "epoch", "position", "link", "floor")
        return (epoch or b"").decode(), int(position or 0), (link or b"").decode(), int(floor or 0)

    def key_ids(self) -> set[str]:
        prefix = keyspace.record(RecordKind.KEY, "")
        return {key.decode().removeprefix(prefix) for key in self._client.scan_iter(f"{prefix}*")}

    def remove_entries(self, first: int, last: int) -> int:
        ids = [id_ for id_, _ in self._client.xrange(keyspace.LOG, f"{first}-0", f"{last}-0")]
        return self._client.xdel(keyspace.LOG, *ids) if ids else 0

    def delete(self, kind: str, which: int) -> str:
        if kind == "generation":
            principals = sorted(self._client.hkeys(keyspace.GENERATIONS))
            if not principals:
                return ""
            principal = principals[which % len(principals)]
            held = self._client.hget(keyspace.GENERATIONS, principal)
            self._remember("generations", keyspace.GENERATIONS.encode(), b"hash", {principal: held})
            self._client.hdel(keyspace.GENERATIONS, principal)
            return str(principal.decode())
        name = spot(which, sorted(key.decode() for key in self._client.scan_iter(_PATTERNS[kind])))
        if name:
            self._remember(kind, name.encode(), *self._read(name.encode()))
            self._client.delete(name)
        return name

    def restore_deleted(self, kinds: Sequence[str]) -> None:
        for kind in kinds:
            for key, (type_, value) in self._deleted.get(kind, {}).items():
                if type_ == b"string":
                    self._client.set(key, value, nx=True)
                elif type_ == b"zset":
                    self._client.zadd(key, value, nx=True)
                elif key == keyspace.HEAD.encode():
                    if not self._client.exists(key):
                        self._client.hset(key, mapping=value)
                else:
                    for name, text in value.items():
                        self._client.hsetnx(key, name, text)

    def copy(self) -> None:
        self._copy = {
            key: (self._client.dump(key), max(0, self._client.pexpiretime(key)))
            for key in self._client.scan_iter()
        }

    def restore_copy(self) -> None:
        """Restore the copy in one transaction, while processes may be running."""
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.flushall()
            for key, (value, expire) in self._copy.items():
                pipeline.restore(key, expire, value, absttl=bool(expire))
            pipeline.execute()

    def spoil(self, site: "Site", how: int, which: int, crashes: bool) -> Sequence[str]:
        """Misconfigure the server, and check that no revocation is acknowledged; then it may crash."""
        name, process = list(WRONG)[how], site.processes[which]
        self.server.configure(name, WRONG[name])
        done = []
        if process.works and not process.heartbeat():
            done.append(f"set up wrongly: {name}")
            token = site.tokens[-1] if site.tokens else None
            if token is not None and site.revoke(process, Kind.TOKEN, token) is not None:
                raise AssertionError(f"a revocation is acknowledged with {name} {WRONG[name]}")
        if crashes:
            running = [p for p in site.processes if p.runs]
            for other in running:
                other.stop()
            self.server.kill()
            self.server.start()
            for other in running:
                site.start_with_help(other)
            site.settle()
            done.append("crash of everything")
        return done

    def mend(self) -> None:
        for name, value in RIGHT.items():
            self.server.configure(name, value)

        def is_written() -> bool:
            info = self._client.info("persistence")
            return not (info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])

        until(is_written)  # it was turned on: the file holds everything only after it was written anew

    def close(self) -> None:
        self._client.close()

    def _read(self, key: bytes) -> tuple[bytes, Any]:
        type_ = self._client.type(key)
        if type_ == b"string":
            return type_, self._client.get(key)
        if type_ == b"zset":
            return type_, dict(self._client.zrange(key, 0, -1, withscores=True))
        return type_, self._client.hgetall(key) if type_ == b"hash" else {}

    def _remember(self, kind: str, key: bytes, type_: bytes, value: Any) -> None:
        known = self._deleted.setdefault(kind, {})
        if isinstance(value, dict) and key in known:
            value = known[key][1] | value
        known[key] = (type_, value)
