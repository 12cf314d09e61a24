"""A store of tokens that several processes of one program share.

With it, the processes of a program request one token together, and those of a user's session use one chain of
refresh tokens: two processes that used a refresh token at the same time would get two successors of it.
"""

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from identity_client.values import TokenSet

_LOCK_TIMEOUT: Final = 30.0
"""Seconds to wait for the process that renews: longer than its attempt takes."""
_TIMES: Final = ("expire_time", "refresh_expire_time")
_LISTS: Final = ("audiences", "scopes")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTokens:
    """Tokens, and when a process stored them."""

    tokens: TokenSet
    save_time: datetime
    """By the clock of this machine."""


class TokenStore(Protocol):
    """The tokens of one source, shared between processes. An error of a method is that of the renewal."""

    def locked(self) -> AbstractContextManager[None]:
        """Hold the store until the block ends; meanwhile no other process or thread holds it."""

    def load(self) -> StoredTokens | None:
        """Return the tokens; None = there are none. The store is held."""

    def save(self, stored: StoredTokens | None) -> None:
        """Replace the tokens; None = there are none any more. The store is held.

        When it returns, no crash of this process loses them.
        """


class FileTokenStore:
    """A store in a file that its owner alone can read (mode 0600); needs the extra `[shared]`.

    Use a file for each credential and audience, on a disk of this machine; a lock file stands beside it.
    """

    def __init__(self, path: str | Path) -> None:
        """Create the store; nothing is read. Raises ImportError if `filelock` is not installed."""
        from filelock import FileLock

        self._path = Path(path)
        self._lock: Callable[[], AbstractContextManager[Any]] = partial(
            FileLock, f"{path}.lock", timeout=_LOCK_TIMEOUT, mode=0o600
        )

    def __repr__(self) -> str:
        return f"FileTokenStore({str(self._path)!r})"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store; raises TimeoutError if another process holds it for 30 s."""
        with self._lock():
            yield

    def load(self) -> StoredTokens | None:
        """Return the tokens of the file; None if there is none, or it was damaged.

        Raises PermissionError if other users may read the file or own it: they could use its tokens, or have
        put in tokens of their own.
        """
        try:
            with self._path.open("rb") as file:
                self._check_owner(os.fstat(file.fileno()))
                return _parse(file.read())
        except FileNotFoundError:
            return None

    def save(self, stored: StoredTokens | None) -> None:
        """Write a new file in place of the old one. Raises OSError if that fails; then the old one stays."""
        if stored is None:
            self._path.unlink(missing_ok=True)
            return
        new = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(json.dumps(_values(stored)).encode())
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError:
            new.unlink(missing_ok=True)
            raise

    def _check_owner(self, status: os.stat_result) -> None:
        if os.name == "nt":
            return
        if status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise PermissionError(
                f"{self._path}: must belong to the user of this process and have mode 0600: it holds tokens"
            )


def _values(stored: StoredTokens) -> dict[str, Any]:
    values = asdict(stored.tokens) | {"save_time": stored.save_time}
    return {name: each.isoformat() if isinstance(each, datetime) else each for name, each in values.items()}


def _parse(data: bytes) -> StoredTokens | None:
    """Return the tokens; None if `save` has not written the file: then they are requested anew."""
    try:
        values = json.loads(data)
        for name in (*_TIMES, "save_time"):
            values[name] = values[name] and datetime.fromisoformat(values[name])
        for name in _LISTS:
            values[name] = tuple(values[name])
        save_time = values.pop("save_time")
        return StoredTokens(tokens=TokenSet(**values), save_time=save_time)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def age(stored: StoredTokens) -> float:
    """Return how long ago the tokens were stored, in seconds; 0 if the clock was set back since."""
    return max((datetime.now(UTC) - stored.save_time).total_seconds(), 0.0)
