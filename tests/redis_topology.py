"""Groups of real Redis servers: replicas, Sentinels, a cluster, with TLS if a test requires it.

The module starts, connects and stops the servers, each by its process id. It knows nothing of the data in
Redis.
"""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from tests.patience import PATIENCE
from tests.ports import reserve_port
from tests.redis_server import RedisServer, ask
from tests.redis_tls import RedisTls

Group = TypeVar("Group", "SentinelGroup", "ClusterGroup")
_POLL: Final = 0.02


class TunedServer(RedisServer):
    """A server of a group, which synchronises with its primary quickly and stops at once."""

    def __init__(
        self,
        directory: Path,
        *,
        binary: str | None = None,
        environment: Mapping[str, str] | None = None,
        tls: RedisTls | None = None,
        **options: str,
    ) -> None:
        """Prepare a server; with `tls` it also serves TLS, on a second port."""
        directory.mkdir(parents=True, exist_ok=True)
        quick = {"repl_diskless_sync_delay": "0"}
        super().__init__(directory, program=binary, environment=environment, **(quick | options))
        self._tls_port = 0
        if tls is not None:
            self._tls_port = reserve_port()
            self._options |= {**tls.server_options, "tls-port": str(self._tls_port)}
        self.bus_port = 0
        """The port of the cluster bus, which is reserved too; 0 = the server is in no cluster."""
        if "cluster-enabled" in self._options:
            self.bus_port = reserve_port()
            self._options["cluster-port"] = str(self.bus_port)

    @property
    def public_port(self) -> int:
        """Return the port for all clients except the tests themselves, which never use TLS."""
        return self._tls_port or self.port

    def reconfigure(self, **options: str) -> None:
        """Set options that apply from the next start of the server."""
        self._options |= {name.replace("_", "-"): value for name, value in options.items()}

    def stop(self) -> None:
        """Kill the server: an orderly end waits for replicas and writes files that no test reads."""
        with contextlib.suppress(RuntimeError):
            self.kill()


class SentinelServer(RedisServer):
    """A Sentinel, which rewrites its own configuration file."""

    def __init__(self, directory: Path, settings: Sequence[str], *, tls: RedisTls | None = None) -> None:
        directory.mkdir(parents=True)
        super().__init__(directory)
        self._settings = [*settings]
        self._tls_port = 0
        if tls is not None:
            self._tls_port = reserve_port()
            self._settings += [f"{name} {value}" for name, value in tls.server_options.items()]
            self._settings.append(f"tls-port {self._tls_port}")

    @property
    def public_port(self) -> int:
        return self._tls_port or self.port

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.kill()

    def _spawn(self) -> "subprocess.Popen[bytes]":
        file = self._directory / "sentinel.conf"
        file.write_text(
            "\n".join(
                [
                    f"port {self.port}",
                    "bind 127.0.0.1",
                    f"dir {self._directory}",
                    f"logfile {self._directory}/redis.log",
                    *self._settings,
                ]
            )
        )
        return subprocess.Popen(
            [self._program, str(file), "--sentinel"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


class SentinelGroup:
    """A primary, two replicas and three Sentinels with a quorum of two."""

    service: Final = "identity"

    def __init__(self, directory: Path, *, tls: RedisTls | None = None) -> None:
        self._tls = tls
        safe: dict[str, Any] = {
            "min_replicas_to_write": "1",
            "min_replicas_max_lag": "2",
            "repl_ping_replica_period": "1",
            "tls": tls,
        }
        self.primary = TunedServer(directory / "primary", **safe)
        self.primary.start()
        self.replicas = [
            TunedServer(
                directory / f"replica-{number}", replicaof=f"127.0.0.1 {self.primary.public_port}", **safe
            )
            for number in range(2)
        ]
        # Sentinels ask once a second: with less patience than that they depose primaries that are well.
        self.sentinels = [
            SentinelServer(
                directory / f"sentinel-{number}",
                [
                    f"sentinel monitor {self.service} 127.0.0.1 {self.primary.public_port} 2",
                    f"sentinel down-after-milliseconds {self.service} 1800",
                    f"sentinel failover-timeout {self.service} 2000",
                ],
                tls=tls,
            )
            for number in range(3)
        ]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.public_port}" for sentinel in self.sentinels)
        return f"{'rediss' if self._tls else 'redis'}+sentinel://{hosts}/{self.service}/0"

    @property
    def elected(self) -> int:
        """Return the public port of the server that the Sentinels name as primary."""
        answer = say(self.sentinels[-1].port, f"SENTINEL GET-MASTER-ADDR-BY-NAME {self.service}")
        return int(answer.splitlines()[-1])

    def start(self) -> None:
        """Start all servers; return once the replicas follow the primary and the Sentinels know them all."""
        for replica in self.replicas:
            replica.start()
        until(lambda: all("state=online" in info(self.primary.port).get(f"slave{n}", "") for n in range(2)))
        for sentinel in self.sentinels:
            sentinel.start()
        for sentinel in self.sentinels:
            port = sentinel.port
            until(lambda port=port: "slaves=2,sentinels=3" in info(port).get("master0", ""))  # type: ignore[misc]

    def stop(self) -> None:
        stop_all([*self.sentinels, *self.replicas, self.primary])


class ClusterGroup:
    """A cluster of three primaries.

    With `replica`, the primary that has the hash slot of `{idn}` has a replica.
    """

    def __init__(
        self,
        directory: Path,
        *,
        replica: bool = False,
        tls: Sequence[RedisTls | None] = (None,) * 4,
        **options: str,
    ) -> None:
        """Prepare the servers; `tls` has an element for each: all of them use TLS, or none does."""
        self._scheme = "rediss" if tls[0] else "redis"
        common: dict[str, Any] = {
            "cluster_enabled": "yes",
            # Without a replica there is nothing to fail over to: a server that is slow, or paused, is not
            # to be taken for dead, which makes the others refuse everything.
            "cluster_node_timeout": "1000" if replica else "30000",
            "cluster_require_full_coverage": "no",
            "repl_ping_replica_period": "1",
            **options,
        }
        self.servers = [
            TunedServer(directory / f"node-{number}", tls=tls[number], **common)
            for number in range(4 if replica else 3)
        ]

    @property
    def url(self) -> str:
        return f"{self._scheme}+cluster://" + ",".join(
            f"127.0.0.1:{server.public_port}" for server in self.servers[:3]
        )

    def move(self, slot: int, number: int) -> None:
        """Have every server say that this one owns the hash slot; the keys of the slot are not moved."""
        owner = node_id(self.servers[number])
        # Older claims of the former owner must count for less, whenever they arrive.
        say(self.servers[number].port, "CLUSTER BUMPEPOCH")
        until(lambda: len({_epoch(server.port, owner) for server in self.servers}) == 1)
        for server in self.servers:
            say(server.port, f"CLUSTER SETSLOT {slot} NODE {owner}")

    @property
    def home(self) -> RedisServer:
        """Return the primary that has the hash slot of `{idn}` (1871) after the start."""
        return self.servers[0]

    @property
    def replica(self) -> RedisServer:
        return self.servers[3]

    def start(self) -> None:
        """Start all servers and form the cluster; return once every server says that it is complete."""
        for server in self.servers:
            server.start()
        first = self.servers[0]
        for number, server in enumerate(self.servers[1:], 2):
            say(server.port, f"CLUSTER SET-CONFIG-EPOCH {number}")
            say(server.port, f"CLUSTER MEET 127.0.0.1 {first.public_port} {first.bus_port}")
        for server, (begin, end) in zip(
            self.servers, ((0, 5460), (5461, 10922), (10923, 16383)), strict=False
        ):
            say(server.port, f"CLUSTER ADDSLOTSRANGE {begin} {end}")
        for server in self.servers:
            port = server.port
            until(lambda port=port: f"cluster_known_nodes:{len(self.servers)}" in cluster_info(port))  # type: ignore[misc]
        if len(self.servers) > 3:
            home = node_id(first)
            until(lambda: ask(self.replica.port, f"CLUSTER REPLICATE {home}\r\n".encode()).startswith(b"+OK"))
            until(lambda: "state=online" in info(first.port).get("slave0", ""))
        self.revive()

    def revive(self) -> None:
        """Restart the servers that were killed; return once every server says the cluster is complete."""
        for server in self.servers:
            server.start()
        for server in self.servers:
            port = server.port
            until(lambda port=port: "cluster_state:ok" in cluster_info(port))  # type: ignore[misc]

    def stop(self) -> None:
        stop_all(self.servers)


@contextlib.contextmanager
def running(group: Group) -> Iterator[Group]:
    """Start the servers of a group; stop them after the block, and if one of them does not start."""
    try:
        group.start()
        yield group
    finally:
        group.stop()


def stop_all(servers: Sequence[RedisServer]) -> None:
    """Stop every server, even if stopping another one fails."""
    with contextlib.ExitStack() as stack:
        for server in servers:
            stack.callback(server.stop)


def say(port: int, command: str) -> str:
    """Send one command; return the first piece of the answer. Raises RuntimeError if it is an error."""
    answer = ask(port, f"{command}\r\n".encode()).decode()
    if answer.startswith("-"):
        raise RuntimeError(f"{command}: {answer}")
    return answer


def info(port: int) -> Mapping[str, str]:
    """Return the lines of INFO about replication and, from a Sentinel, about its primaries."""
    text = say(port, "INFO sentinel") + say(port, "INFO replication")
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name: value.strip() for name, value in pairs}


def cluster_info(port: int) -> str:
    return say(port, "CLUSTER INFO")


def node_id(server: RedisServer) -> str:
    """Return the id of a server in its cluster."""
    return say(server.port, "CLUSTER MYID").splitlines()[1]


def _epoch(port: int, node_id: str) -> str:
    """Return the configuration epoch of the server `node_id`, as the server at `port` has it."""
    nodes = (line.split() for line in say(port, "CLUSTER NODES").splitlines())
    return next(words[6] for words in nodes if words and words[0] == node_id)


def until(condition: Callable[[], bool], patience: float = PATIENCE) -> float:
    """Wait until the condition is true; return the seconds that it took.

    A condition that raises ConnectionError counts as false: Redis closes the connections of its clients when
    its role changes.
    """
    begun = time.monotonic()
    while not _holds(condition):
        if time.monotonic() - begun > patience:
            raise TimeoutError("it did not come to pass")
        time.sleep(_POLL)
    return time.monotonic() - begun


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except ConnectionError:
        return False


@contextlib.contextmanager
def paused(server: RedisServer) -> Iterator[None]:
    """Suspend the server's process until the block ends."""
    server.pause()
    try:
        yield
    finally:
        server.resume()
