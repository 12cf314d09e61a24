"""One Redis server, or the current primary behind Sentinel: its connections, circuit and confirmations.

The exceptions of redis-py pass through; `connection.py` translates them. This module does not know which keys
the server owns.
"""

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import hiredis
import redis
from redis.exceptions import NoScriptError

from identity_service.domain.errors import NotConfirmedError, StoreUnavailableError, UnsafeStoreError
from identity_service.storage.redis.client.circuit_breaker import CircuitBreaker
from identity_service.storage.redis.client.pool import (
    BusyError,
    Confirmation,
    ConnectionPool,
    Handshake,
    PooledConnection,
    RawConnection,
)

_CONNECTIONS: Final = 64
_WAITERS: Final = 8
_CONFIRM_SHARE: Final = 0.75
"""The fraction of the timeout of a call for which WAIT or WAITAOF waits: the server answers before the call
times out, even if too few copies confirm the write."""
_LOOK_INTERVAL: Final = 0.4
"""The number of seconds for which one check of a server's configuration is valid for the writes of a
connection. It is less than the default interval of heartbeats, so that each heartbeat checks; and no write
relies on a check that is older than a second."""
_DEMOTED: Final = ("READONLY", "NOREPLICAS", "MASTERDOWN", "UNBLOCKED")
"""The error codes of a server that is no longer the primary, or of a primary that has lost its replicas."""


class Request(NamedTuple):
    """A call, ready to be sent. Not a dataclass: each call creates one, and this takes half the time."""

    packed: bytes
    """The command in the Redis protocol."""
    script: str | None = None
    """The text of the script, if the command is EVALSHA: the server may not have the script yet."""
    repeatable: bool = True
    """True if it is safe to send the command again if no answer came."""
    durable: bool = False
    """True if the server must confirm that the write has the configured durability."""


class Node:
    """A client of one Redis server: a connection pool and a circuit breaker. Thread-safe."""

    def __init__(
        self, make: Callable[[float], RawConnection], handshake: Handshake, timeout: float, block: float
    ) -> None:
        """Prepare the pools, without opening a connection.

        Args:
            make: creates a connection from its timeout in seconds.
            handshake: checks the server behind each new connection, and again before a durable write is
                acknowledged if the last check is older than 0.4 s.
            timeout: seconds for an answer.
            block: seconds that `wait` may take in addition.
        """
        self._timeout = timeout
        self._handshake = handshake
        self._circuit = CircuitBreaker()
        self._pool = ConnectionPool(lambda: make(timeout), handshake, size=_CONNECTIONS, patience=timeout / 2)
        self._waiting = ConnectionPool(
            lambda: make(timeout + block), lambda _: None, size=_WAITERS, patience=timeout / 2
        )

    @property
    def is_away(self) -> bool:
        """True if the circuit is open: the server is unavailable or refused, and calls fail at once."""
        return self._circuit.is_open

    def call(self, request: Request) -> Any:
        """Send a request and return the answer, once the write is confirmed if it must be durable.

        A repeatable request is sent a second time if the connection breaks within half of the timeout.

        Raises NotConfirmedError with the answer, StoreUnavailableError, and the exceptions of redis-py.
        """
        trial = self._circuit.is_open and self._circuit.enter()
        begun = time.monotonic()
        try:
            return self._call_once(self._pool, request, trial=trial)
        except redis.ConnectionError:
            # A restart of Redis leaves broken connections in the pool, which fail at once.
            if not request.repeatable or trial or time.monotonic() - begun > self._timeout / 2:
                raise
        trial = self._circuit.is_open and self._circuit.enter()
        return self._call_once(self._pool, request, trial=trial)

    def wait(self, request: Request) -> Any:
        """Send a blocking command and return the answer. It is never the trial of an open circuit.

        Raises StoreUnavailableError, and the exceptions of redis-py.
        """
        self._circuit.require_closed()
        return self._call_once(self._waiting, request, trial=False)

    def distrust(self) -> None:
        """Have every connection reopened, and so the server checked, before its next use."""
        self._pool.distrust()
        self._waiting.distrust()

    def close(self) -> None:
        """Close all connections; calls in progress fail with a connection error."""
        self._pool.close()
        self._waiting.close()

    def _call_once(self, pool: ConnectionPool, request: Request, *, trial: bool) -> Any:
        """Send one request, without a retry, report the outcome to the circuit, and return the answer."""
        reached = False
        try:
            pooled = pool.take(checked=not request.repeatable)
            reached = True
            answer = self._send(pool, pooled, request)
        except BusyError:
            self._circuit.abandoned(trial=trial)
            raise
        except NotConfirmedError:
            self._circuit.succeeded()
            self.distrust()  # its replicas may follow another primary now
            raise
        except redis.ResponseError as error:
            self._circuit.succeeded()
            if code_of(error) in _DEMOTED:
                self.distrust()
            raise
        except UnsafeStoreError as error:
            self._circuit.failed(trial=trial, unreachable=False, refusal=error)
            self.distrust()
            raise
        except (redis.RedisError, OSError, ValueError, StoreUnavailableError):
            self._circuit.failed(trial=trial, unreachable=not reached)
            self.distrust()
            raise
        except BaseException:
            self._circuit.abandoned(trial=trial)
            raise
        if self._circuit.failures:
            self._circuit.succeeded()
        return answer

    def _send(self, pool: ConnectionPool, pooled: PooledConnection, request: Request) -> Any:
        """Send a request, give the connection back, and return the answer.

        The connection is disconnected first if an answer may be unread.
        """
        try:
            if not request.durable:
                return exchange(pooled.raw, request.packed, request.script)
            answer = self._write(pooled, request)
            # After the write: the configuration on which its durability depends must have been valid during
            # it.
            if time.monotonic() - pooled.looked > _LOOK_INTERVAL:
                pooled.look(self._handshake)
        except (redis.ResponseError, NotConfirmedError):
            raise  # the answer was read completely, so the connection can be used again
        except BaseException:
            pooled.raw.disconnect()  # otherwise the next caller might read the answer to this call
            raise
        else:
            return answer
        finally:
            pool.give(pooled)

    def _write(self, pooled: PooledConnection, request: Request) -> Any:
        """Send a durable write with the confirmation that the last check of the server chose."""
        if pooled.confirmation is None:
            return exchange(pooled.raw, request.packed, request.script)
        try:
            return self._write_confirmed(pooled.raw, request, pooled.confirmation)
        except NotConfirmedError as error:
            self._raise_cause(pooled, error)
            raise

    def _raise_cause(self, pooled: PooledConnection, error: NotConfirmedError) -> None:
        """Raise NotConfirmedError with the wrong setting, if a new check of the server finds one."""
        if not pooled.raw.is_connected:
            return
        try:
            pooled.look(self._handshake)
        except UnsafeStoreError as why:
            raise NotConfirmedError(f"the write was not confirmed: {why}", error.answer) from why
        except (redis.RedisError, OSError):
            pooled.raw.disconnect()  # answers that were not read may still arrive

    def _write_confirmed(self, raw: RawConnection, request: Request, confirmation: Confirmation) -> Any:
        packed = request.packed + pack(*confirmation.words(self._timeout * _CONFIRM_SHARE))
        answer, confirmed = _exchange_two(raw, packed)
        if isinstance(answer, NoScriptError) and request.script is not None:
            raw.send_packed_command([pack("SCRIPT", "LOAD", request.script)])
            raw.read_response()
            answer, confirmed = _exchange_two(raw, packed)
        if isinstance(answer, redis.ResponseError):
            raise answer  # an error reply: nothing was changed, so nothing needs to be confirmed
        if isinstance(confirmed, redis.RedisError):
            said = code_of(confirmed) or type(confirmed).__name__
            raise NotConfirmedError(f"Redis cannot confirm the write ({said})", answer) from confirmed
        if not confirmation.is_given(confirmed):
            raise NotConfirmedError(
                "too few replicas or disks confirmed the write in time; a failover or a crash may lose it",
                answer,
            )
        return answer


def _exchange_two(raw: RawConnection, packed: bytes) -> tuple[Any, Any]:
    """Send two commands and return both answers, each possibly an error; the second may be a timeout."""
    raw.send_packed_command([packed])
    answer = answer_of(raw)
    try:
        return answer, answer_of(raw)
    except redis.TimeoutError as error:
        raw.disconnect()
        return answer, error


def answer_of(raw: RawConnection) -> Any:
    """Return the next answer; an error reply is returned as an exception, not raised."""
    try:
        return raw.read_response()
    except redis.ResponseError as error:
        # Without its traceback: a caller that keeps it in a list would form a cycle with it.
        return error.with_traceback(None)


def exchange(raw: RawConnection, packed: bytes, script: str | None) -> Any:
    """Send a command and return the answer; load the script first if the server does not have it.

    A server lacks a script that it never ran, and every script after a restart.
    """
    raw.send_packed_command([packed])
    try:
        return raw.read_response()
    except NoScriptError:
        if script is None:
            raise
    raw.send_packed_command([pack("SCRIPT", "LOAD", script)])
    raw.read_response()
    raw.send_packed_command([packed])
    return raw.read_response()


def pack(*words: str | int) -> bytes:
    """Return a command in the Redis protocol."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub means tuple[x, ...]
    return packed


def code_of(error: redis.RedisError) -> str:
    """Return the code with which Redis begins an error, such as `NOPERM`, or "" if there is none."""
    # redis-py removes a code that it knows from the message; ERR is the code of errors without one of their
    # own.
    known: str = error.status_code or "ERR"
    code = known if known != "ERR" else str(error).split(" ", 1)[0]
    return code if code.isascii() and code.isupper() and code.replace("_", "").isalpha() else ""
