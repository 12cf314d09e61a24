"""The port that finds the server of a key, and its implementation for a single server or primary.

`cluster.py` implements it for a cluster. This module does not know which commands are sent.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import redis

from identity_service.storage.redis.client.node import Node
from identity_service.storage.redis.client.pool import RawConnection


class Topology(Protocol):
    """The port that finds the server of a key. Thread-safe."""

    @property
    def is_spread(self) -> bool:
        """Whether two keys of different hash tags may lie on different servers."""

    def node_of(self, key: str) -> Node:
        """Return the server that owns this key. Raises StoreUnavailableError if no owner is known."""

    def learn(self, node: Node, error: redis.RedisError | OSError | None) -> bool:
        """Take note of a failed call to `node`; return True if it should be sent again to the new owner.

        `error` None means that the server is unavailable, or that its circuit is open.
        """

    def primaries(self) -> Sequence[Callable[[float], RawConnection]]:
        """Return a factory of connections for each server that owns keys, that of `{idn}` first.

        A factory takes the timeout of the connection in seconds.
        """

    def close(self) -> None:
        """Close all connections."""


class OneServer:
    """The topology of one server that owns all keys, implementing the port `Topology`."""

    is_spread = False

    def __init__(self, make: Callable[[float], RawConnection], node: Node) -> None:
        self._make = make
        self._node = node

    def node_of(self, key: str) -> Node:  # noqa: ARG002  # the port has it
        """Return the only server."""
        return self._node

    def learn(self, node: Node, error: redis.RedisError | OSError | None) -> bool:  # noqa: ARG002
        """Return False: there is no other server to ask."""
        return False

    def primaries(self) -> Sequence[Callable[[float], RawConnection]]:
        """Return the factory of connections to the only server."""
        return (self._make,)

    def close(self) -> None:
        """Close the connections to the server."""
        self._node.close()
