"""Translation of the exceptions of redis-py, and of the refusals of scripts, into domain errors."""

import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

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
from identity_service.storage.codec import damaged, fence_error
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.client.node import code_of

CALL_ERRORS: Final = (redis.RedisError, OSError, ValueError)
"""The exceptions of a failed call; OSError and ValueError come from a socket that another thread has
closed."""
_WRONG_TYPE: Final = "WRONGTYPE"
_OTHER_FORMAT: Final = "IDN_FORMAT"
_FENCED: Final = "IDN_FENCED"
"""The start of the error for a write to a store that was moved; the fence follows it as JSON."""
_DAMAGED: Final = re.compile(r"IDN_DAMAGED\[(.*)\]\[([^\]]*)\]", re.DOTALL)
"""The error of a script that finds a key with contents that this service did not write: the key, and its
fault."""
_REFUSALS: Final[dict[str, Callable[[], IdentityError]]] = {
    "IDN_UNINITIALIZED": StoreUninitializedError,
    "IDN_UNFINISHED": CopyUnfinishedError,
    "IDN_REPLACED": StoreReplacedError,
    "IDN_VANISHED": partial(
        StoreUnavailableError, "entries vanished from `{idn}:log` while it was rebuilt; it is rebuilt again"
    ),
    "IDN_INITIALIZED": partial(AlreadyExistsError, "the store is initialised already"),
    "IDN_HEADLESS": partial(
        AlreadyExistsError,
        "the store holds a change log that lost its epoch: restore a backup, "
        "or delete the keys `{idn}:*` to begin anew",
    ),
    "IDN_COPY": partial(
        StoreReplacedError,
        "another restore or migration into this store has begun meanwhile; this one has ended",
    ),
    "IDN_EXISTS": partial(AlreadyExistsError, "a record with this id exists already"),
    "IDN_NAME": partial(AlreadyExistsError, "the username or certificate is taken"),
    "IDN_MISSING": partial(NotFoundError, "there is no record with this id"),
    "IDN_STALE": partial(StaleEtagError, "the record has changed since it was read"),
}
"""The errors for the codes with which scripts refuse."""


def translate(error: Exception) -> IdentityError:
    """Return the domain error for an exception of redis-py or of a socket."""
    if isinstance(error, redis.ResponseError):
        return _refusal(error)
    if isinstance(error, redis.RedisError):
        return StoreUnavailableError(f"cannot reach Redis ({_kind(error)})")
    return StoreUnavailableError("cannot reach Redis (connection closed)")


@contextmanager
def translated() -> Iterator[None]:
    """Translate the errors of the calls in the block."""
    try:
        yield
    except CALL_ERRORS as error:
        raise translate(error) from error


def is_wrong_type(error: Exception) -> bool:
    """Return whether a command failed because a key has another type than the command takes."""
    return isinstance(error, redis.ResponseError) and _WRONG_TYPE in f"{code_of(error)} {error}"


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
    refusal = _REFUSALS.get(code)
    return StoreUnavailableError(f"Redis refuses to serve ({_kind(error)})") if refusal is None else refusal()


def _kind(error: redis.RedisError) -> str:
    """Return the class of the error, its code and the reason, without values such as the host."""
    code, cause = code_of(error), error.__cause__ or error.__context__
    reason: str | None = None
    if isinstance(cause, ssl.SSLError):  # its text may name the host
        reason = cause.reason
    elif isinstance(cause, OSError):
        reason = cause.strerror
    return type(error).__name__ + (f" {code}" if code else "") + (f": {reason}" if reason else "")
