"""The way to one Redis: scripts, commands, and the one place where its exceptions are translated.

Knows nothing of what the scripts do. No call waits much longer than its timeout, none is tried for ever.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry

from identity_service.domain.errors import (
    AlreadyExistsError,
    ConfigurationError,
    IdentityError,
    NotFoundError,
    StaleEtagError,
    StoreReplacedError,
    StoreUnavailableError,
    StoreUninitializedError,
)
from identity_service.storage.redis.pool import Pool, Wire

_CONNECTIONS: Final = 64
_WAITERS: Final = 8
_LONGEST_BLOCK: Final = 1.0
_HEALTH_CHECK_SECONDS: Final = 15
_REFUSALS: Final[dict[str, tuple[type[IdentityError], str]]] = {
    "IDN_UNINITIALIZED": (
        StoreUninitializedError,
        "the store was never initialised, or it was emptied: run `identity init`",
    ),
    "IDN_REPLACED": (
        StoreReplacedError,
        "the store has another change log than the one this process follows",
    ),
    "IDN_INITIALIZED": (AlreadyExistsError, "the store is initialised already"),
    "IDN_HEADLESS": (
        AlreadyExistsError,
        "the store holds a change log that lost its epoch: restore a backup, "
        "or delete the keys `{idn}:*` to begin anew",
    ),
    "IDN_EXISTS": (AlreadyExistsError, "there is a record of this id already"),
    "IDN_USERNAME": (AlreadyExistsError, "the username is taken"),
    "IDN_MISSING": (NotFoundError, "there is no record of this id"),
    "IDN_STALE": (StaleEtagError, "the record has changed since it was read"),
}


@dataclass(frozen=True, slots=True)
class _Script:
    text: str
    sha: str


class Connection:
    """Runs scripts and commands; any thread may call any method."""

    def __init__(self, url: str, timeout: float) -> None:
        """Raises ConfigurationError for a URL that is none; connects with the first call."""
        self._timeout = timeout
        self._pool = Pool(_maker(url, timeout), size=_CONNECTIONS, patience=timeout / 2)
        self._waiting = Pool(_maker(url, timeout + _LONGEST_BLOCK), size=_WAITERS, patience=timeout / 2)
        self._scripts = _load_scripts()

    def run(
        self,
        script: str,
        keys: Sequence[str],
        args: Sequence[str | int],
        *,
        repeatable: bool = True,
        durable: bool = False,
    ) -> Any:
        """Run a script. Where it may be repeated, a broken connection is tried once more.

        Raises StoreUnavailableError, and what the script refuses with.
        """
        known = self._scripts[script]
        words = ("EVALSHA", known.sha, len(keys), *keys, *args)
        return self._call(self._pool, words, known.text, repeatable=repeatable)

    def command(self, *words: str | int) -> Any:
        """Run a command that only reads; the answer as Redis gives it."""
        return self._call(self._pool, words, None, repeatable=True)

    def permitted(self, *words: str | int) -> Any | None:
        """Run a command that only reads, or None where the server is there and refuses it."""
        try:
            return self.command(*words)
        except StoreUnavailableError as error:
            if isinstance(error.__cause__, redis.ResponseError):
                return None
            raise

    def wait(self, stream: str, after: int, timeout: float) -> None:
        """Return when the stream has an entry after `after`, or when the time is over."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            block = max(1, int(min(left, _LONGEST_BLOCK) * 1000))
            words = ("XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", stream, f"{after}-0")
            if self._call(self._waiting, words, None, repeatable=False):
                return

    def close(self) -> None:
        """Close every connection; a `wait` in progress ends."""
        self._pool.close()
        self._waiting.close()

    def _call(self, pool: Pool, words: tuple[str | int, ...], script: str | None, *, repeatable: bool) -> Any:
        try:
            packed = _pack(*words)
            begun = time.monotonic()
            try:
                return _once(pool, packed, script, checked=not repeatable)
            except redis.ConnectionError:
                # A restart of Redis leaves dead connections in the pool, which fail at once.
                if not repeatable or time.monotonic() - begun > self._timeout / 2:
                    raise
                return _once(pool, packed, script, checked=True)
        except redis.ResponseError as error:
            raise _refusal(error) from error
        except redis.RedisError as error:
            raise StoreUnavailableError(f"Redis cannot be asked ({_kind(error)})") from error
        except (OSError, ValueError) as error:  # a socket that another thread has closed
            raise StoreUnavailableError("Redis cannot be asked (connection closed)") from error


def _once(pool: Pool, packed: bytes, script: str | None, *, checked: bool) -> Any:
    connection = pool.take(checked=checked)
    try:
        return _exchange(connection, packed, script)
    except redis.ResponseError:
        raise  # an answer like any other: the connection is as good as before
    except BaseException:
        connection.disconnect()  # else the next caller might read the answer to this one
        raise
    finally:
        pool.give(connection)


def _exchange(connection: Wire, packed: bytes, script: str | None) -> Any:
    """Send and receive. A server that does not know the script (it was restarted) is taught it once."""
    connection.send_packed_command([packed])
    try:
        return connection.read_response()
    except NoScriptError:
        if script is None:
            raise
    connection.send_packed_command([_pack("SCRIPT", "LOAD", script)])
    connection.read_response()
    connection.send_packed_command([packed])
    return connection.read_response()


def _pack(*words: str | int) -> bytes:
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub means tuple[x, ...]
    return packed


def _maker(url: str, timeout: float) -> Callable[[], Wire]:
    """What makes connections to this URL. Their pool only reads the URL; it lends none out."""
    try:
        source: Any = redis.ConnectionPool.from_url(url)
        source.connection_kwargs.update(
            decode_responses=True,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            health_check_interval=_HEALTH_CHECK_SECONDS,
            # Whether a call may be repeated is known above, not in the library.
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        source.make_connection()  # opens nothing, but objects to options that it does not know
    except (ValueError, TypeError, redis.RedisError):
        # Without its cause: the library quotes the URL, and with it parts of the password.
        raise ConfigurationError("store: is no Redis URL such as redis://host:6379/0") from None
    make: Callable[[], Wire] = source.make_connection
    return make


def _load_scripts() -> dict[str, _Script]:
    """Every script by name, each behind the shared prelude."""
    folder = resources.files(__package__).joinpath("lua")
    prelude = folder.joinpath("prelude.lua").read_text()
    scripts = {}
    for file in folder.iterdir():
        if file.name.endswith(".lua") and file.name != "prelude.lua":
            text = prelude + file.read_text()
            sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()  # how Redis names it
            scripts[file.name.removesuffix(".lua")] = _Script(text, sha)
    return scripts


def _refusal(error: redis.ResponseError) -> IdentityError:
    """What a script said no with; anything else of the server is its unavailability."""
    refusal = _REFUSALS.get(str(error).split(" ", 1)[0])
    if refusal is None:
        return StoreUnavailableError(f"Redis refuses to serve ({_kind(error)})")
    kind, message = refusal
    return kind(message)


def _kind(error: redis.RedisError) -> str:
    """A name for the failure: the class, and the code that Redis begins its errors with; no values."""
    code = str(error).split(" ", 1)[0]
    shown = f" {code}" if code.isascii() and code.isupper() and code.isalpha() else ""
    return type(error).__name__ + shown
