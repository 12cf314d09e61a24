"""Scripts that run one after the other on one server, over a connection of its own: for reads of all keys.

A cursor of SCAN means nothing to another server, so a broken connection ends it all. The connections that
serve calls are left alone.
"""

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

import redis

from identity_service.domain.errors import IdentityError
from identity_service.storage.redis.client.node import Request, exchange
from identity_service.storage.redis.client.pool import RawConnection

_STEP: Final = 1000
"""Keys that one step of SCAN looks at, so that it holds up the server for a few milliseconds at most."""
_TROUBLE: Final = (redis.RedisError, OSError, ValueError)


class Conversation:
    """One connection to one server. Used by one thread, in a `with` block."""

    def __init__(
        self,
        raw: RawConnection,
        request: Callable[[str, Sequence[str], Sequence[str | int]], Request],
        translate: Callable[[Exception], IdentityError],
    ) -> None:
        """
        Args:
            wire: the connection, not yet open.
            request: makes the call of a script from its name, keys and arguments.
            translate: turns what `redis` raises into an error of the domain.
        """
        self._raw = raw
        self._request = request
        self._translate = translate

    def __enter__(self) -> Self:
        try:
            self._raw.connect()
        except _TROUBLE as error:
            raise self._translate(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._raw.disconnect()

    def run(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Run a script. Raises StoreUnavailableError, and what the script refuses with."""
        request = self._request(script, keys, args)
        try:
            return exchange(self._raw, request.packed, request.script)
        except _TROUBLE as error:
            raise self._translate(error) from error

    def scan(self, script: str, keys: Sequence[str], prefix: str, *words: str | int) -> Iterator[list[str]]:
        """Run a script that does one step of SCAN until all keys were looked at; yield what each step found.

        It takes the cursor, the prefix and how many keys to look at, then `words`, and answers the next
        cursor and what it found.
        """
        cursor = "0"
        while True:
            cursor, *found = self.run(script, keys, [cursor, prefix, _STEP, *words])
            yield found
            if cursor == "0":
                return
