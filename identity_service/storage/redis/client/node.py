"""One server of Redis, or whoever is the primary now: its connections, its circuit, its confirmations.

Raises what `redis` raises; `connection.py` translates. Does not know which keys lie here.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import hiredis
import redis
from redis.exceptions import NoScriptError

from identity_service.domain.errors import NotConfirmedError, StoreUnavailableError, UnsafeStoreError
from identity_service.storage.redis.client.batching import CallBatcher, PendingCall
from identity_service.storage.redis.client.circuit_breaker import CircuitBreaker
from identity_service.storage.redis.client.durability import Confirmation
from identity_service.storage.redis.client.pool import (
    BusyError,
    Handshake,
    Pool,
    PooledConnection,
    RawConnection,
)

_CONNECTIONS: Final = 64
_WAITERS: Final = 8
_CONFIRM_SHARE: Final = 0.75
"""Of the time of a call: a server that confirms too slowly still answers before the caller gives up."""
_LOOK_INTERVAL: Final = 0.4
"""Seconds that a look at a server's set-up holds for the writes of a connection: less than the default
interval of heartbeats, so that each of them looks; and no write rests on a look older than a second."""
_DEMOTED: Final = ("READONLY", "NOREPLICAS", "MASTERDOWN", "UNBLOCKED")
"""What a server says that is no longer the primary, or is one that its replicas have left."""


class Request(NamedTuple):
    """One call, ready to be sent. No dataclass: one is made for every call, and this is half the time."""

    packed: bytes
    script: str | None = None
    """The text, where it calls a script that the server may not know yet."""
    repeatable: bool = True
    """Whether it does no harm to send it again where no answer came."""
    durable: bool = False
    """Whether the server must confirm that the write is as durable as was chosen."""
    brief: bool = False
    """Whether it may go out with others: it takes the server no time, has a short answer, is repeatable, and
    nothing has to confirm it."""


class Node:
    """Asks one server; any thread may call any method."""

    def __init__(
        self, make: Callable[[float], RawConnection], handshake: Handshake, timeout: float, block: float
    ) -> None:
        """
        Args:
            make: gives a connection whose every answer may take so many seconds.
            greet: looks at the server behind each new connection, and again before a write that must be
                durable is acknowledged, where the last look was too long ago.
            timeout: seconds for an answer.
            block: seconds that `wait` may take beyond that.
        """
        self._timeout = timeout
        self._handshake = handshake
        self._circuit = CircuitBreaker()
        self._pool = Pool(lambda: make(timeout), handshake, size=_CONNECTIONS, patience=timeout / 2)
        self._waiting = Pool(
            lambda: make(timeout + block), lambda _: None, size=_WAITERS, patience=timeout / 2
        )
        self._batcher: CallBatcher[Request, Any] = CallBatcher(self._talk)

    @property
    def is_away(self) -> bool:
        return self._circuit.is_open

    def call(self, request: Request) -> Any:
        """Send it, and the confirmation with it where it is asked for.

        Raises NotConfirmedError with the answer, StoreUnavailableError, and what `redis` raises.
        """
        trial = self._circuit.enter()
        begun = time.monotonic()
        try:
            if request.brief and not trial:
                return _given(self._batcher.go(request))
            return self._guarded(self._pool, request, trial=trial)
        except redis.ConnectionError:
            # A restart of Redis leaves dead connections in the pool, which fail at once.
            if not request.repeatable or trial or time.monotonic() - begun > self._timeout / 2:
                raise
        return self._guarded(self._pool, request, trial=self._circuit.enter())

    def converse(self, talk: Callable[[Callable[[Request], Any]], None]) -> None:
        """Hold one connection, hence talk to one process, for calls that follow each other.

        `talk` is given what sends a request and returns the answer. Nothing is repeated or confirmed.
        """
        trial = self._circuit.enter()

        def on(pooled: PooledConnection) -> None:
            talk(lambda request: exchange(pooled.raw, request.packed, request.script))

        self._conduct(self._pool, on, checked=True, trial=trial)

    def wait(self, request: Request) -> Any:
        """Send what blocks. It is never the trial of a server that is away."""
        self._circuit.require_closed()
        return self._guarded(self._waiting, request, trial=False)

    def distrust(self) -> None:
        """Open every connection anew before its next use."""
        self._pool.distrust()
        self._waiting.distrust()

    def close(self) -> None:
        self._pool.close()
        self._waiting.close()

    def _talk(self, batch: Sequence[PendingCall[Request, Any]]) -> None:
        """One conversation about many calls. An error that the server answers with is an answer."""

        def talk(pooled: PooledConnection) -> None:
            _exchange_all(pooled.raw, batch)

        self._circuit.require_closed()
        self._conduct(self._pool, talk, checked=False, trial=False)
        if any(
            code_of(pending.answers[0]) in _DEMOTED for pending in batch if _is_refusal(pending.answers[0])
        ):
            self.distrust()

    def _guarded(self, pool: Pool, request: Request, *, trial: bool) -> Any:
        """One conversation about one call."""

        def talk(pooled: PooledConnection) -> Any:
            if not request.durable:
                return exchange(pooled.raw, request.packed, request.script)
            answer = self._written(pooled, request)
            # After the write: what it was acknowledged on must have held when it was made.
            if time.monotonic() - pooled.looked > _LOOK_INTERVAL:
                pooled.look(self._handshake)
            return answer

        return self._conduct(pool, talk, checked=not request.repeatable, trial=trial)

    def _conduct(
        self, pool: Pool, talk: Callable[[PooledConnection], Any], *, checked: bool, trial: bool
    ) -> Any:
        """Hold a conversation, and tell the circuit what became of it."""
        reached = False
        try:
            pooled = pool.take(checked=checked)
            reached = True
            answer = _converse(pool, pooled, talk)
        except BusyError:
            self._circuit.abandoned(trial=trial)
            raise
        except NotConfirmedError:
            self._circuit.succeeded()
            self.distrust()  # its replicas may have left it for another primary
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
        self._circuit.succeeded()
        return answer

    def _written(self, pooled: PooledConnection, request: Request) -> Any:
        """Write, and have it confirmed as the last look at the server says."""
        if pooled.confirmation is None:
            return exchange(pooled.raw, request.packed, request.script)
        try:
            return self._confirmed(pooled.raw, request, pooled.confirmation)
        except NotConfirmedError as error:
            self._explain(pooled, error)
            raise

    def _explain(self, pooled: PooledConnection, error: NotConfirmedError) -> None:
        """Raise NotConfirmedError with the setting that is wrong, where that is why nothing was confirmed."""
        if not pooled.raw.is_connected:
            return
        try:
            pooled.look(self._handshake)
        except UnsafeStoreError as why:
            raise NotConfirmedError(f"the write was not confirmed: {why}", error.answer) from why
        except (redis.RedisError, OSError):
            pooled.raw.disconnect()  # the rest of the answers may still be under way

    def _confirmed(self, raw: RawConnection, request: Request, confirmation: Confirmation) -> Any:
        packed = request.packed + pack(*confirmation.words(self._timeout * _CONFIRM_SHARE))
        answer, confirmed = _both(raw, packed)
        if isinstance(answer, NoScriptError) and request.script is not None:
            raw.send_packed_command([pack("SCRIPT", "LOAD", request.script)])
            raw.read_response()
            answer, confirmed = _both(raw, packed)
        if isinstance(answer, redis.ResponseError):
            raise answer  # it changed nothing, so there was nothing to confirm
        if isinstance(confirmed, redis.RedisError):
            said = code_of(confirmed) or type(confirmed).__name__
            raise NotConfirmedError(f"Redis cannot confirm the write ({said})", answer) from confirmed
        if not confirmation.is_given(confirmed):
            raise NotConfirmedError("too few confirmed the write in time; it may or may not last", answer)
        return answer


def _converse(pool: Pool, pooled: PooledConnection, talk: Callable[[PooledConnection], Any]) -> Any:
    try:
        return talk(pooled)
    except (redis.ResponseError, NotConfirmedError):
        raise  # an answer like any other: the connection is as good as before
    except BaseException:
        pooled.raw.disconnect()  # else the next caller might read the answer to this one
        raise
    finally:
        pool.give(pooled)


def _given(answer: Any) -> Any:
    if _is_refusal(answer):
        raise answer
    return answer


def _is_refusal(answer: Any) -> bool:
    return isinstance(answer, redis.ResponseError)


def _both(raw: RawConnection, packed: bytes) -> tuple[Any, Any]:
    """Send two commands and receive both answers, each possibly an error."""
    raw.send_packed_command([packed])
    answer = _answer(raw)
    try:
        return answer, _answer(raw)
    except redis.TimeoutError as error:
        raw.disconnect()
        return answer, error


def _answer(raw: RawConnection) -> Any:
    try:
        return raw.read_response()
    except redis.ResponseError as error:
        return error


def _exchange_all(raw: RawConnection, batch: Sequence[PendingCall[Request, Any]]) -> None:
    raw.send_packed_command([b"".join([pending.request.packed for pending in batch])])
    for pending in batch:
        pending.answers.append(_answer(raw))
    for pending in batch:
        if isinstance(pending.answers[0], NoScriptError):
            pending.answers.clear()  # it is no answer for the caller, also where no other one comes
            try:
                pending.answers.append(exchange(raw, pending.request.packed, pending.request.script))
            except redis.ResponseError as error:
                pending.answers.append(error)


def exchange(raw: RawConnection, packed: bytes, script: str | None) -> Any:
    """Send and receive. A server that does not know the script (it was restarted) is taught it once."""
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
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub means tuple[x, ...]
    return packed


def code_of(error: redis.RedisError) -> str:
    """The word that Redis begins an error with, or nothing where it has none."""
    # The library takes the word away where it knows it; ERR is the word for everything that has none.
    known: str = error.status_code or "ERR"
    code = known if known != "ERR" else str(error).split(" ", 1)[0]
    return code if code.isascii() and code.isupper() and code.replace("_", "").isalpha() else ""
