"""The connection to one Redis: pools, scripts, and the one place where its exceptions are translated.

Knows nothing of what the scripts do. No call waits longer than its timeout, none is tried for ever.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import resources
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
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

_CONNECTIONS: Final = 64
_WAITERS: Final = 8
_LONGEST_BLOCK: Final = 1.0
_HEALTH_CHECK_SECONDS: Final = 15
_REFUSALS: Final[dict[str, IdentityError]] = {
    "IDN_UNINITIALIZED": StoreUninitializedError(
        "the store was never initialised, or it was emptied: run `identity init`"
    ),
    "IDN_REPLACED": StoreReplacedError("the store has another change log than the one this process follows"),
    "IDN_EXISTS": AlreadyExistsError("there is a record of this id already"),
    "IDN_USERNAME": AlreadyExistsError("the username is taken"),
    "IDN_MISSING": NotFoundError("there is no record of this id"),
    "IDN_STALE": StaleEtagError("the record has changed since it was read"),
}
_SCRIPTS: Final = "lua"


class Connection:
    """Runs scripts and commands; any thread may call any method."""

    def __init__(self, url: str, timeout: float) -> None:
        """Raises ConfigurationError for a URL that is none; connects with the first call."""
        self._closed = False
        try:
            self._pool = redis.BlockingConnectionPool.from_url(
                url, max_connections=_CONNECTIONS, timeout=timeout, **_options(timeout)
            )
            self._waiting = redis.BlockingConnectionPool.from_url(
                url, max_connections=_WAITERS, timeout=timeout, **_options(timeout + _LONGEST_BLOCK)
            )
        except (ValueError, redis.RedisError) as error:
            # The library's text may quote the URL, and with it the password.
            raise ConfigurationError("store: is no Redis URL such as redis://host:6379/0") from error
        # Their execute_command has no types.
        self._client: Any = redis.Redis(connection_pool=self._pool)
        self._waiter: Any = redis.Redis(connection_pool=self._waiting)
        folder = resources.files(__package__).joinpath(_SCRIPTS)
        prelude = folder.joinpath("prelude.lua").read_text()
        self._scripts: dict[str, Script] = {
            file.name.removesuffix(".lua"): self._client.register_script(prelude + file.read_text())
            for file in folder.iterdir()
            if file.name.endswith(".lua") and file.name != "prelude.lua"
        }

    def run(
        self, script: str, keys: Sequence[str], args: Sequence[str | int], *, repeatable: bool = True
    ) -> Any:
        """Run a script. Where it may be repeated, a broken connection is tried once more.

        Raises StoreUnavailableError, and what the script refuses with.
        """
        return self._call(lambda: self._scripts[script](keys=keys, args=args), repeatable=repeatable)

    def command(self, *words: str | int) -> Any:
        """Run a command that only reads."""
        return self._call(lambda: self._client.execute_command(*words), repeatable=True)

    def wait(self, stream: str, after: int, timeout: float) -> None:
        """Return when the stream has an entry after `after`, or when the time is over."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            block = max(1, int(min(left, _LONGEST_BLOCK) * 1000))
            words = ("XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", stream, f"{after}-0")
            if self._call(partial(self._waiter.execute_command, *words), repeatable=False):
                return

    def close(self) -> None:
        """Close every connection; a `wait` in progress ends."""
        self._closed = True
        for pool in (self._pool, self._waiting):
            pool.disconnect(inuse_connections=True)

    def _call(self, call: Callable[[], Any], *, repeatable: bool) -> Any:
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        try:
            try:
                return call()
            except redis.ConnectionError as error:
                # A restart of Redis leaves dead connections in the pool: the next one is new.
                if not repeatable or isinstance(error, redis.BusyLoadingError):
                    raise
                return call()
        except redis.ResponseError as error:
            raise _refusal(error) from error
        except redis.RedisError as error:
            raise StoreUnavailableError(f"Redis cannot be asked ({_kind(error)})") from error
        except (OSError, ValueError) as error:  # a socket that another thread has closed
            raise StoreUnavailableError("Redis cannot be asked (connection closed)") from error


def _options(timeout: float) -> dict[str, Any]:
    return {
        "decode_responses": True,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "health_check_interval": _HEALTH_CHECK_SECONDS,
        # Whether a call may be repeated is known above, not in the library.
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }


def _refusal(error: redis.ResponseError) -> IdentityError:
    """What a script said no with; anything else of the server is its unavailability."""
    word = str(error).split(" ", 1)[0]
    refusal = _REFUSALS.get(word)
    if refusal is None:
        return StoreUnavailableError(f"Redis refuses to serve ({_kind(error)})")
    return type(refusal)(*refusal.args)


def _kind(error: redis.RedisError) -> str:
    """A name for the failure: the class, and the code that Redis begins its errors with; no values."""
    code = str(error).split(" ", 1)[0]
    shown = f" {code}" if code.isascii() and code.isupper() and code.isalpha() else ""
    return type(error).__name__ + shown
