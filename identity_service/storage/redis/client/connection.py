"""The client of Redis: runs scripts and commands on the server that owns their keys.

This module does not know the purpose of any script. No call takes much longer than its timeout, and the
number of retries is bounded.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import redis

from identity_service.domain.errors import IdentityError, StoreUnavailableError
from identity_service.domain.ports import Clock, EventLog
from identity_service.storage.codec import damaged
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.client.address import Address, HostPort, maker, parse
from identity_service.storage.redis.client.cluster import Cluster
from identity_service.storage.redis.client.conversation import DedicatedConnection
from identity_service.storage.redis.client.node import Node, Request, pack
from identity_service.storage.redis.client.pool import Handshake, RawConnection
from identity_service.storage.redis.client.server_checks import Demands, Finding, judge
from identity_service.storage.redis.client.server_probe import ServerProbe, read_setup
from identity_service.storage.redis.client.translation import (
    CALL_ERRORS,
    is_wrong_type,
    translate,
    translated,
)
from identity_service.storage.redis.scripts import load_scripts

_LONGEST_BLOCK: Final = 1.0
_REDIRECTIONS: Final = (0.0, 0.01, 0.03, 0.1)
"""The pauses, in seconds, before each redirection is followed: of two servers that redirect to each other,
one does not know of the move yet."""


class RedisConnection:
    """A client of one store: runs each script or command on the server of its first key. Thread-safe."""

    def __init__(
        self,
        url: str,
        timeout: float,
        *,
        demands: Demands | None = None,
        clock: Clock | None = None,
        event_log: EventLog | None = None,
    ) -> None:
        """Parse the URL, without opening a connection. Raises ConfigurationError if the URL is malformed.

        Args:
            url: see `address.py`.
            timeout: seconds that one call may take.
            demands: the requirements on each server before it is used; None = no server is checked, and the
                answer to a write is its only confirmation.
            clock: the clock of this process, compared with that of each server; None = they are not compared.
            event_log: receives the findings about the configuration of the servers; None = they are not
                logged.
        """
        address = parse(url)
        self._clock = clock
        self._timeout = timeout
        self._failover = address.kind != "single"
        self._topology = self._find_servers(address, demands, event_log)
        self._scripts = load_scripts()

    @property
    def is_spread(self) -> bool:
        """True if keys without a common hash tag may lie on different servers."""
        return self._topology.is_spread

    def run(
        self,
        script: str,
        keys: Sequence[str],
        args: Sequence[str | int],
        *,
        repeatable: bool = True,
        durable: bool = False,
    ) -> Any:
        """Run a script and return its answer.

        Args:
            script: the name of the file in `lua/`, without its suffix.
            keys: the first of them says on which server the script runs.
            args: the values that the script reads as ARGV.
            repeatable: whether the script is sent once more if the connection breaks before an answer comes.
            durable: whether the call returns only after the write is as durable as the demands say.

        Raises NotConfirmedError with the script's answer if the write was not confirmed in time,
        StoreUnavailableError, and the domain error for the refusal of the script.
        """
        return self._call(keys, self._request(script, keys, args, repeatable, durable))

    def _request(
        self,
        script: str,
        keys: Sequence[str],
        args: Sequence[str | int],
        repeatable: bool = True,
        durable: bool = False,
    ) -> Request:
        known = self._scripts[script]
        words = ("EVALSHA", known.sha, len(keys), *keys, *args)
        return Request(pack(*words), known.text, repeatable, durable)

    def command(self, name: str, key: str, *words: str | int) -> Any:
        """Run a command that only reads, on the server that owns `key`; return the answer unchanged."""
        return self._call([key], Request(pack(name, key, *words)))

    def servers(self) -> Sequence[DedicatedConnection]:
        """Return a dedicated connection to each server that owns keys, that to the server of `{idn}` first.

        Raises StoreUnavailableError if no server is known.
        """
        makers = self._topology.primaries()
        if not makers:
            raise StoreUnavailableError("no server of the Redis Cluster answers")
        return [DedicatedConnection(make(self._timeout), self._request) for make in makers]

    def owner(self, key: str) -> object:
        """Return an object that identifies the server of a key: it is the same for all keys of a server.

        Raises StoreUnavailableError if no owner is known.
        """
        return self._topology.node_of(key)

    def check(self, demands: Demands) -> Sequence[Finding]:
        """Return the findings against these demands in the configuration of the servers, refusals first.

        Raises StoreUnavailableError if a server cannot be asked.
        """
        findings: dict[str, Finding] = {}
        failover = self._failover
        with translated():
            for make in self._topology.primaries():
                raw = make(_LONGEST_BLOCK)
                try:
                    raw.connect()
                    setup = read_setup(raw, self._clock)
                finally:
                    raw.disconnect()
                for finding in judge(setup, replace(demands, failover=failover)):
                    findings.setdefault(finding.what, finding)
                failover = False  # only the first, the server of `{idn}`, must; `_find_servers` says why
        return sorted(findings.values(), key=lambda finding: finding.severity != "refuse")

    def wait(self, stream: str, after: int, timeout: float) -> None:
        """Block until the stream has an entry after position `after`, or until `timeout` seconds have passed.

        Raises StoreUnavailableError.
        """
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            block = max(1, int(min(left, _LONGEST_BLOCK) * 1000))
            words = ("XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", stream, f"{after}-0")
            request = Request(pack(*words), repeatable=False)
            try:
                found = self._ask(stream, request, Node.wait)
            except CALL_ERRORS as error:
                raise self._named(error, [stream]) from error
            if found:
                return

    def close(self) -> None:
        """Close every connection; a `wait` in progress ends with an error."""
        self._topology.close()

    def _find_servers(
        self, address: Address, demands: Demands | None, event_log: EventLog | None
    ) -> "Cluster | _OneServer":
        def handshake(failover: Callable[[], bool]) -> Handshake:
            if demands is None:
                return lambda _: None
            return ServerProbe(lambda: replace(demands, failover=failover()), self._clock, event_log).admit

        def node(make: Callable[[float], RawConnection], failover: Callable[[], bool]) -> Node:
            return Node(make, handshake(failover), self._timeout, _LONGEST_BLOCK)

        if address.kind != "cluster":
            make = maker(address)
            return _OneServer(make, node(make, lambda: address.kind == "sentinel"))

        def make_node(host: HostPort) -> Node:
            # Only the server of `{idn}` must refuse writes when it has lost its replicas. A session that is
            # written to a former primary does no harm, since the keys of `{idn}` say which sessions have
            # ended.
            return node(maker(address, host), lambda: cluster.is_home(host))

        cluster = Cluster(address, keys.HEAD, make_node)
        return cluster

    def _call(self, keys: Sequence[str], request: Request) -> Any:
        try:
            return self._ask(keys[0], request, Node.call)
        except CALL_ERRORS as error:
            raise self._named(error, keys) from error

    def _named(self, error: Exception, involved: Sequence[str]) -> IdentityError:
        """Return the domain error; for a WRONGTYPE error it names the key that has an unexpected type."""
        if not is_wrong_type(error):
            return translate(error)
        for key in involved:
            try:
                found = self._ask(key, Request(pack("TYPE", key)), Node.call)
            except (*CALL_ERRORS, StoreUnavailableError):
                break
            if found not in ("none", keys.type_of(key)):
                return damaged(key, f"is of the type {found}, not {keys.type_of(key)}")
        return damaged(
            f"{involved[0]}, or another key of the same call,",
            "does not have the type that this service gave it",
        )

    def _ask(self, key: str, request: Request, ask: Callable[[Node, Request], Any]) -> Any:
        """Ask the owner of the key; if it redirects, ask the new owner, after at most four redirections."""
        for pause in _REDIRECTIONS:
            node = self._topology.node_of(key)
            try:
                return ask(node, request)
            except redis.RedisError as error:
                # A server that redirects has executed nothing, so that asking the new owner repeats nothing.
                if not self._topology.learn(node, error):
                    raise
            except StoreUnavailableError:
                self._topology.learn(node, None)
                raise
            time.sleep(pause)
        return ask(self._topology.node_of(key), request)


class _OneServer:
    """One server that owns all keys, with the methods of `Cluster` by which the server of a key is found."""

    is_spread = False

    def __init__(self, make: Callable[[float], RawConnection], node: Node) -> None:
        self._make = make
        self._node = node

    def node_of(self, key: str) -> Node:  # noqa: ARG002  # as in a cluster
        """Return the only server."""
        return self._node

    def learn(self, node: Node, error: redis.RedisError | OSError | None) -> bool:  # noqa: ARG002
        """Return False: there is no other server to ask."""
        return False

    def primaries(self) -> Sequence[Callable[[float], RawConnection]]:
        """Return the factory of connections to the only server."""
        return (self._make,)

    def close(self) -> None:
        """Close the connections to the server."""
        self._node.close()
