"""The way to Redis: scripts, commands, and the one place where its exceptions are translated.

Knows nothing of what the scripts do. No call waits much longer than its timeout, none is tried for ever.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import redis

from identity_service.domain.errors import (
    AlreadyExistsError,
    CopyUnfinishedError,
    IdentityError,
    NotFoundError,
    StaleEtagError,
    StoreDamagedError,
    StoreReplacedError,
    StoreUnavailableError,
    StoreUninitializedError,
)
from identity_service.domain.ports import Clock, EventLog
from identity_service.storage.damage import damaged
from identity_service.storage.fence import fence_error
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.client.address import Address, HostPort, maker, node_maker, parse
from identity_service.storage.redis.client.cluster import Cluster
from identity_service.storage.redis.client.conversation import Conversation
from identity_service.storage.redis.client.node import Node, Request, code_of, pack
from identity_service.storage.redis.client.pool import Handshake, RawConnection
from identity_service.storage.redis.client.server_checks import Demands, Finding, judge_all
from identity_service.storage.redis.client.server_probe import ServerProbe, read_setup
from identity_service.storage.redis.client.topology import OneServer, Topology
from identity_service.storage.redis.scripts import load_scripts

RunScript = Callable[[str, Sequence[str], Sequence[str | int]], Any]
"""Runs a script: its name, keys and arguments."""

_LONGEST_BLOCK: Final = 1.0
_REDIRECTIONS: Final = (0.0, 0.01, 0.03, 0.1)
"""Seconds before each is followed: of two servers that name each other, one has not heard of the move yet."""
_TROUBLE: Final = (redis.RedisError, OSError, ValueError)
"""What calls fail with; the latter two come of a socket that another thread has closed."""
_WRONG_TYPE: Final = "WRONGTYPE"
_OTHER_FORMAT: Final = "IDN_FORMAT"
_FENCED: Final = "IDN_FENCED"
"""What a write to a store that was moved is refused with; the fence follows it."""
_UNFINISHED: Final = "IDN_UNFINISHED"
_DAMAGED: Final = re.compile(r"IDN_DAMAGED\[(.*)\]\[([^\]]*)\]", re.DOTALL)
"""How a script ends that finds a key which does not hold what this service wrote there."""
_REFUSALS: Final[dict[str, tuple[type[IdentityError], str]]] = {
    "IDN_UNINITIALIZED": (
        StoreUninitializedError,
        "the store was never initialised, or it was emptied: check that its URL is right, then run "
        "`identity init`, or `identity restore FILE`",
    ),
    "IDN_REPLACED": (
        StoreReplacedError,
        "the store has another change log than the one this process follows",
    ),
    "IDN_VANISHED": (
        StoreUnavailableError,
        "entries vanished from `{idn}:log` while it was rebuilt; it is rebuilt again",
    ),
    "IDN_INITIALIZED": (AlreadyExistsError, "the store is initialised already"),
    "IDN_HEADLESS": (
        AlreadyExistsError,
        "the store holds a change log that lost its epoch: restore a backup, "
        "or delete the keys `{idn}:*` to begin anew",
    ),
    "IDN_COPY": (
        StoreReplacedError,
        "another restore or migration into this store has begun meanwhile; this one has ended",
    ),
    "IDN_EXISTS": (AlreadyExistsError, "there is a record of this id already"),
    "IDN_NAME": (AlreadyExistsError, "the username or certificate is taken"),
    "IDN_MISSING": (NotFoundError, "there is no record of this id"),
    "IDN_STALE": (StaleEtagError, "the record has changed since it was read"),
}


class Connection:
    """Runs scripts and commands where their first key lies; any thread may call any method."""

    def __init__(
        self,
        url: str,
        timeout: float,
        *,
        demands: Demands | None = None,
        clock: Clock | None = None,
        event_log: EventLog | None = None,
    ) -> None:
        """Connects with the first call.

        Args:
            url: see `address.py`.
            timeout: seconds that one call may take.
            demands: what each server must give before it is used; None = nothing is looked at, and
                nothing confirms a write but its answer.
            clock: of this process, to compare with that of the server; None = they are not compared.
            journal: where it is said that a server does not meet the demands.

        Raises ConfigurationError for a URL that is none.
        """
        address = parse(url)
        self._clock = clock
        self._timeout = timeout
        self._failover = address.kind != "single"
        self._topology = _topology(address, timeout, demands, clock, event_log)
        self._scripts = load_scripts()

    @property
    def is_spread(self) -> bool:
        """Whether keys without a common hash tag may lie on different servers."""
        return self._topology.is_spread

    def run(
        self,
        script: str,
        keys: Sequence[str],
        args: Sequence[str | int],
        *,
        repeatable: bool = True,
        durable: bool = False,
        brief: bool = False,
    ) -> Any:
        """Run a script. Where it may be repeated, a broken connection is tried once more.

        With `brief`, it may go out together with others, see `Request`. With `durable`, it returns once the
        write is as durable as the demands say. Raises
        NotConfirmedError with the script's answer where that was not confirmed in time,
        StoreUnavailableError, and what the script refuses with.
        """
        return self._call(keys, self._request(script, keys, args, repeatable, durable, brief))

    def series(self, key: str, calls: Callable[[RunScript], None]) -> None:
        """Run scripts one after the other on one connection to the server where `key` lies.

        A cursor of SCAN means nothing to another server. `calls` is given what runs a script; it may be
        called anew from its start when the key is found to lie elsewhere. Raises as `run` does.
        """

        def ask(node: Node, _: Request) -> None:
            node.converse(
                lambda send: calls(lambda script, keys, args: send(self._request(script, keys, args)))
            )

        try:
            self._ask(key, Request(b""), ask)
        except _TROUBLE as error:
            raise _translation(error) from error

    def _request(
        self,
        script: str,
        keys: Sequence[str],
        args: Sequence[str | int],
        repeatable: bool = True,
        durable: bool = False,
        brief: bool = False,
    ) -> Request:
        known = self._scripts[script]
        words = ("EVALSHA", known.sha, len(keys), *keys, *args)
        return Request(pack(*words), known.text, repeatable, durable, brief)

    def command(self, name: str, key: str, *words: str | int) -> Any:
        """Run a command that only reads one key; the answer as Redis gives it."""
        return self._call([key], Request(pack(name, key, *words)))

    def servers(self) -> Sequence[Conversation]:
        """Every server that owns keys, that of `{idn}` first. Raises StoreUnavailableError: none is known."""
        makers = self._topology.primaries()
        if not makers:
            raise StoreUnavailableError("no server of the Redis Cluster answers")
        return [Conversation(make(self._timeout), self._request, _translation) for make in makers]

    def owner(self, key: str) -> object:
        """Tell the server that owns a key from the others. Raises StoreUnavailableError: none is known."""
        return self._topology.node_of(key)

    def check(self, demands: Demands) -> Sequence[Finding]:
        """What of the set-up of the servers goes against these demands, worst first.

        Raises StoreUnavailableError where one of them cannot be asked.
        """
        try:
            return self._check(demands)
        except _TROUBLE as error:
            raise _translation(error) from error

    def wait(self, stream: str, after: int, timeout: float) -> None:
        """Return when the stream has an entry after `after`, or when the time is over."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            block = max(1, int(min(left, _LONGEST_BLOCK) * 1000))
            words = ("XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", stream, f"{after}-0")
            request = Request(pack(*words), repeatable=False)
            try:
                found = self._ask(stream, request, Node.wait)
            except _TROUBLE as error:
                raise self._named(error, [stream]) from error
            if found:
                return

    def close(self) -> None:
        """Close every connection; a `wait` in progress ends."""
        self._topology.close()

    def _call(self, keys: Sequence[str], request: Request) -> Any:
        try:
            return self._ask(keys[0], request, Node.call)
        except _TROUBLE as error:
            raise self._named(error, keys) from error

    def _named(self, error: Exception, involved: Sequence[str]) -> IdentityError:
        """The error of the domain; if a key has another type than ours, the one that names it."""
        if not isinstance(error, redis.ResponseError) or _WRONG_TYPE not in f"{code_of(error)} {error}":
            return _translation(error)
        for key in involved:
            try:
                found = self._ask(key, Request(pack("TYPE", key)), Node.call)
            except (*_TROUBLE, StoreUnavailableError):
                break
            if found not in ("none", keys.type_of(key)):
                return damaged(key, f"is of the type {found}, not {keys.type_of(key)}")
        return damaged(
            f"{involved[0]}, or another key beside it,", "has not the type that this service gave it"
        )

    def _ask(self, key: str, request: Request, ask: Callable[[Node, Request], Any]) -> Any:
        """Ask the owner of the key; where that is another one by now, ask that one."""
        for pause in _REDIRECTIONS:
            node = self._topology.node_of(key)
            try:
                return ask(node, request)
            except redis.RedisError as error:
                # A server that sends elsewhere has done nothing, so that asking there repeats nothing.
                if not self._topology.learn(node, error):
                    raise
            except StoreUnavailableError:
                self._topology.learn(node, None)
                raise
            time.sleep(pause)
        return ask(self._topology.node_of(key), request)

    def _check(self, demands: Demands) -> Sequence[Finding]:
        findings: dict[str, Finding] = {}
        failover = self._failover
        for make in self._topology.primaries():
            raw = make(_LONGEST_BLOCK)
            try:
                raw.connect()
                setup = read_setup(raw, self._clock)
            finally:
                raw.disconnect()
            for finding in judge_all(setup, replace(demands, failover=failover)):
                findings.setdefault(finding.what, finding)
            failover = False  # for the others see `_topology`
        return sorted(findings.values(), key=lambda finding: finding.severity != "refuse")


def _topology(
    address: Address,
    timeout: float,
    demands: Demands | None,
    clock: Clock | None,
    event_log: EventLog | None,
) -> Topology:
    def handshake(failover: Callable[[], bool]) -> Handshake:
        if demands is None:
            return lambda _: None
        return ServerProbe(lambda: replace(demands, failover=failover()), clock, event_log).admit

    def node(make: Callable[[float], RawConnection], failover: Callable[[], bool]) -> Node:
        return Node(make, handshake(failover), timeout, _LONGEST_BLOCK)

    if address.kind != "cluster":
        make = maker(address)
        return OneServer(make, node(make, lambda: address.kind == "sentinel"))

    def make_node(host: HostPort) -> Node:
        # Only the server of `{idn}` must refuse writes when its replicas have left it: what becomes of
        # a session written to a deposed primary is harmless, since `{idn}` says what has ended.
        return node(node_maker(address, host), lambda: cluster.is_home(host))

    cluster = Cluster(address, keys.HEAD, make_node)
    return cluster


def _translation(error: Exception) -> IdentityError:
    if isinstance(error, redis.ResponseError):
        return _refusal(error)
    if isinstance(error, redis.RedisError):
        return StoreUnavailableError(f"Redis cannot be asked ({_kind(error)})")
    return StoreUnavailableError("Redis cannot be asked (connection closed)")


def _refusal(error: redis.ResponseError) -> IdentityError:
    """What a script said no with; anything else of the server is its unavailability."""
    if _OTHER_FORMAT in str(error):
        return StoreDamagedError(
            f"`{keys.HEAD}` has a format that this version does not know: run the version that wrote it"
        )
    if damage := _DAMAGED.search(str(error)):
        return damaged(damage[1], damage[2])
    code = code_of(error)
    if code == _FENCED:
        return fence_error(str(error).partition(" ")[2], f"{keys.HEAD}, fence")
    if code == _UNFINISHED:
        return CopyUnfinishedError()
    refusal = _REFUSALS.get(code)
    if refusal is None:
        return StoreUnavailableError(f"Redis refuses to serve ({_kind(error)})")
    kind, message = refusal
    return kind(message)


def _kind(error: redis.RedisError) -> str:
    """A name for the failure: the class, and the code that Redis begins its errors with; no values."""
    code = code_of(error)
    return type(error).__name__ + (f" {code}" if code else "")
