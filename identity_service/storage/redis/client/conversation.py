"""A dedicated connection to one server, on which scripts run one after the other: for loops over SCAN.

A cursor of SCAN is valid on one server only, so a broken connection ends the loop: nothing is retried. The
connections of the pool are not used.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Self

from identity_service.storage.redis.client.node import Request, exchange
from identity_service.storage.redis.client.pool import RawConnection
from identity_service.storage.redis.client.translation import translated

_STEP: Final = 1000
"""The number of keys that one step of SCAN looks at, so that it blocks the server for a few milliseconds at
most."""


class DedicatedConnection:
    """A dedicated connection to one server, used by one thread in a `with` block."""

    def __init__(
        self, raw: RawConnection, request: Callable[[str, Sequence[str], Sequence[str | int]], Request]
    ) -> None:
        """Take a connection, which the `with` block opens and closes.

        Args:
            raw: the connection, not yet open.
            request: makes the call of a script from its name, keys and arguments.
        """
        self._raw = raw
        self._request = request

    def __enter__(self) -> Self:
        with translated():
            self._raw.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.disconnect()

    def scan(self, script: str, keys: Sequence[str], prefix: str, *words: str | int) -> Iterator[list[str]]:
        """Run a script for each step of SCAN until all keys were looked at; yield the result of each step.

        The script takes as ARGV the cursor, the prefix and the number of keys to look at, then `words`. It
        answers the next cursor and its finds. Raises StoreUnavailableError, and the domain error for the
        refusal of the script.
        """
        cursor = "0"
        while True:
            request = self._request(script, keys, [cursor, prefix, _STEP, *words])
            with translated():
                cursor, *found = exchange(self._raw, request.packed, request.script)
            yield found
            if cursor == "0":
                return
