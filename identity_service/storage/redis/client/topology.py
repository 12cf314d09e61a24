"""Which server owns which key: the port, and the case of one server (a primary behind Sentinel included).

`cluster.py` has the other case. Knows nothing of what is asked.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import redis

from identity_service.storage.redis.client.node import Node
from identity_service.storage.redis.client.pool import RawConnection


class Topology(Protocol):
    """Finds servers; any thread may call any method."""

    @property
    def is_spread(self) -> bool:
        """Whether two keys of different hash tags may lie on different servers."""

    def node_of(self, key: str) -> Node:
        """The server that owns this key. Raises StoreUnavailableError where none is known to."""

    def learn(self, node: Node, error: redis.RedisError | OSError | None) -> bool:
        """What became of a call to `node`; True where another server may be asked the same at once.

        `error` None = it is away, or its circuit says so.
        """

    def primaries(self) -> Sequence[Callable[[float], RawConnection]]:
        """What makes connections to each server that owns keys; that of `{idn}` comes first."""

    def close(self) -> None: ...


class OneServer:
    """Everything lies in one place."""

    is_spread = False

    def __init__(self, make: Callable[[float], RawConnection], node: Node) -> None:
        self._make = make
        self._node = node

    def node_of(self, key: str) -> Node:  # noqa: ARG002  # the port's
        return self._node

    def learn(self, node: Node, error: redis.RedisError | OSError | None) -> bool:  # noqa: ARG002
        return False

    def primaries(self) -> Sequence[Callable[[float], RawConnection]]:
        return (self._make,)

    def close(self) -> None:
        self._node.close()
