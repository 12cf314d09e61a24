"""The client of Redis: runs scripts and commands, and translates the exceptions of redis-py to domain errors.

This module does not know what the scripts do. No call takes much longer than its timeout, and the
number of retries is bounded.
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
from identity_service.storage.redis.client.conversation import DedicatedConnection
from identity_service.storage.redis.client.node import Node, Request, code_of, pack
from identity_service.storage.redis.client.pool import Handshake, RawConnection
from identity_service.storage.redis.client.server_checks import Demands, Finding, judge_all
from identity_service.storage.redis.client.server_probe import ServerProbe, read_setup
from identity_service.storage.redis.client.topology import OneServer, Topology
from identity_service.storage.redis.scripts import load_scripts

RunScript = Callable[[str, Sequence[str], Sequence[str | int]], Any]
"""Runs a script by its name, keys and arguments, and returns its answer."""

_LONGEST_BLOCK: Final = 1.0
_REDIRECTIONS: Final = (0.0, 0.01, 0.03, 0.1)
"""Seconds to wait before each redirection is followed: of two servers that redirect to each other, one does
not know of the move yet."""
_CALL_ERRORS: Final = (redis.RedisError, OSError, ValueError)
"""The exceptions of a failed call; OSError and ValueError come from a socket that another thread has
closed."""
_WRONG_TYPE: Final = "WRONGTYPE"
_OTHER_FORMAT: Final = "IDN_FORMAT"
_FENCED: Final = "IDN_FENCED"
"""Begins the error for a write to a store that was moved; the fence follows it as JSON."""
_UNFINISHED: Final = "IDN_UNFINISHED"
_DAMAGED: Final = re.compile(r"IDN_DAMAGED\[(.*)\]\[([^\]]*)\]", re.DOTALL)
"""The error of a script that finds a key with contents that this service did not write: the key, and its
fault."""
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
    "IDN_EXISTS": (AlreadyExistsError, "a record with this id exists already"),
    "IDN_NAME": (AlreadyExistsError, "the username or certificate is taken"),
    "IDN_MISSING": (NotFoundError, "there is no record with this id"),
    "IDN_STALE": (StaleEtagError, "the record has changed since it was read"),
}


class Connection:
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
            demands: what each server must fulfil before it is used; None = no server is checked, and the
                answer to a write is its only confirmation.
            clock: the clock of this process, compared with that of each server; None = they are not compared.
            event_log: where findings about the configuration of the servers are logged; None = they are not.
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
        """Run a script and return its answer.

        Args:
            script: the name of the file in `lua/`, without its suffix.
            keys: the first of them says on which server the script runs.
            args: what the script reads as ARGV.
            repeatable: whether the script is sent once more if the connection breaks before an answer comes.
            durable: whether the call returns only after the write is as durable as the demands say.
            brief: whether the call may be sent in one batch with others; see `Request`.

        Raises NotConfirmedError with the script's answer if the write was not confirmed in time,
        StoreUnavailableError, and the domain error for the refusal of the script.
        """
        return self._call(keys, self._request(script, keys, args, repeatable, durable, brief))

    def series(self, key: str, calls: Callable[[RunScript], None]) -> None:
        """Run scripts one after the other on one connection to the server that owns `key`.

        For loops over SCAN, whose cursor is valid on one server only. `calls` gets the function that runs a
        script; it is called again from its start if the server redirects to another owner of the key. Nothing
        is retried or confirmed. Raises StoreUnavailableError, and the domain error for the refusal of a
        script.
        """

        def ask(node: Node, _: Request) -> None:
            node.converse(
                lambda send: calls(lambda script, keys, args: send(self._request(script, keys, args)))
            )

        try:
            self._ask(key, Request(b""), ask)
        except _CALL_ERRORS as error:
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
        """Run a command that only reads, on the server that owns `key`; return the answer unchanged."""
        return self._call([key], Request(pack(name, key, *words)))

    def servers(self) -> Sequence[DedicatedConnection]:
        """Return a dedicated connection to each server that owns keys, that to the server of `{idn}` first.

        Raises StoreUnavailableError if no server is known.
        """
        makers = self._topology.primaries()
        if not makers:
            raise StoreUnavailableError("no server of the Redis Cluster answers")
        return [DedicatedConnection(make(self._timeout), self._request, _translation) for make in makers]

    def owner(self, key: str) -> object:
        """Return an object that identifies the server of a key: it is the same for all keys of a server.

        Raises StoreUnavailableError if no owner is known.
        """
        return self._topology.node_of(key)

    def check(self, demands: Demands) -> Sequence[Finding]:
        """Return the findings against these demands in the configuration of the servers, refusals first.

        Raises StoreUnavailableError if a server cannot be asked.
        """
        try:
            return self._check(demands)
        except _CALL_ERRORS as error:
            raise _translation(error) from error

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
            except _CALL_ERRORS as error:
                raise self._named(error, [stream]) from error
            if found:
                return

    def close(self) -> None:
        """Close every connection; a `wait` in progress ends with an error."""
        self._topology.close()

    def _call(self, keys: Sequence[str], request: Request) -> Any:
        try:
            return self._ask(keys[0], request, Node.call)
        except _CALL_ERRORS as error:
            raise self._named(error, keys) from error

    def _named(self, error: Exception, involved: Sequence[str]) -> IdentityError:
        """Return the domain error; for a WRONGTYPE error it names the key that has an unexpected type."""
        if not isinstance(error, redis.ResponseError) or _WRONG_TYPE not in f"{code_of(error)} {error}":
            return _translation(error)
        for key in involved:
            try:
                found = self._ask(key, Request(pack("TYPE", key)), Node.call)
            except (*_CALL_ERRORS, StoreUnavailableError):
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
            failover = False  # only the first, the server of `{idn}`, must; `_topology` says why
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
        # Only the server of `{idn}` must refuse writes when it has lost its replicas. A session that is
        # written to a deposed primary does no harm, since the keys of `{idn}` say which sessions have ended.
        return node(node_maker(address, host), lambda: cluster.is_home(host))

    cluster = Cluster(address, keys.HEAD, make_node)
    return cluster


def _translation(error: Exception) -> IdentityError:
    if isinstance(error, redis.ResponseError):
        return _refusal(error)
    if isinstance(error, redis.RedisError):
        return StoreUnavailableError(f"cannot reach Redis ({_kind(error)})")
    return StoreUnavailableError("cannot reach Redis (connection closed)")


def _refusal(error: redis.ResponseError) -> IdentityError:
    """Return the domain error for the refusal of a script; StoreUnavailableError for any other error."""
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
    """Return the class of the error, its code, and the system's reason, without any values."""
    code, cause = code_of(error), error.__cause__ or error.__context__
    reason = f": {cause.strerror}" if isinstance(cause, OSError) and cause.strerror else ""
    return type(error).__name__ + (f" {code}" if code else "") + reason
