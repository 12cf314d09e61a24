"""A Redis Cluster: which of its servers owns a key, learned from the servers and from their redirections.

Knows nothing of what is asked. Slots of which a part has moved (ASK, TRYAGAIN) are unavailable meanwhile.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import redis
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, MovedError

from identity_service.domain.errors import StoreUnavailableError
from identity_service.storage.redis.client.address import Address, HostPort, node_maker
from identity_service.storage.redis.client.node import Node, pack
from identity_service.storage.redis.client.pool import RawConnection

_SLOTS: Final = 16384
_REFRESH_INTERVAL: Final = 0.2
"""Seconds between two looks at the map: while a server is away, every call would ask for it."""
_ASK_TIMEOUT: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Map:
    owners: Sequence[HostPort | None] = field(default=(None,) * _SLOTS)

    def moved(self, slot: int, owner: HostPort) -> "_Map":
        owners = list(self.owners)
        owners[slot] = owner
        return _Map(owners=owners)


class Cluster:
    """Implements the port `Topology`."""

    is_spread = True

    def __init__(self, address: Address, home_key: str, make_node: Callable[[HostPort], Node]) -> None:
        """
        Args:
            address: names some of the servers.
            home_key: a key of the server that matters most.
            make_node: gives the way to one server.
        """
        self._address = address
        self._home_slot: Final = slot_of(home_key)
        self._make_node = make_node
        self._map = _Map()
        self._nodes: dict[HostPort, Node] = {}
        self._adding = threading.Lock()
        self._refreshing = threading.Lock()
        self._refreshed = float("-inf")

    def is_home(self, host: HostPort) -> bool:
        """Whether this server owns the key that matters most."""
        return self._map.owners[self._home_slot] == host

    def node_of(self, key: str) -> Node:
        slot = slot_of(key)
        if self._map.owners[slot] is None:
            self._refresh(wait=True)
        owner = self._map.owners[slot]
        if owner is None:
            raise StoreUnavailableError("no server of the Redis Cluster answers for this key")
        return self._node(owner)

    def learn(self, node: Node, error: redis.RedisError | OSError | None) -> bool:
        if isinstance(error, MovedError):
            self._refresh()
            # Last, since the map may be that of a server that has not heard of the move yet.
            self._take_over(error.slot_id, (error.host or self._host_of(node), error.port))
            return True
        if error is None or isinstance(error, redis.ConnectionError | redis.TimeoutError | ClusterDownError):
            self._refresh(avoid=node)
        return False

    def primaries(self) -> Sequence[Callable[[float], RawConnection]]:
        self._refresh(wait=True)
        owners = {owner for owner in self._map.owners if owner is not None}
        home_first = sorted(owners, key=lambda owner: (not self.is_home(owner), owner))
        return [node_maker(self._address, owner) for owner in home_first]

    def close(self) -> None:
        with self._adding:
            for node in self._nodes.values():
                node.close()

    def _node(self, host: HostPort) -> Node:
        node = self._nodes.get(host)
        if node is None:
            with self._adding:
                node = self._nodes.get(host) or self._make_node(host)
                self._nodes[host] = node
        return node

    def _host_of(self, node: Node) -> str:
        return next((host for (host, _), known in self._nodes.items() if known is node), "")

    def _take_over(self, slot: int, owner: HostPort) -> None:
        with self._adding:
            self._map = self._map.moved(slot, owner)
        if slot == self._home_slot:
            self._node(owner).distrust()  # more is demanded of it now

    def _refresh(self, *, avoid: Node | None = None, wait: bool = False) -> None:
        """Read the map anew, unless that was done a moment ago or another thread is about it."""
        if not self._refreshing.acquire(blocking=wait):
            return
        try:
            if time.monotonic() - self._refreshed < _REFRESH_INTERVAL:
                return
            self._read_map(avoid)
            self._refreshed = time.monotonic()
        finally:
            self._refreshing.release()

    def _read_map(self, avoid: Node | None) -> None:
        home = self._map.owners[self._home_slot]
        for host in self._candidates(avoid):
            if (found := self._ask(host)) is not None:
                self._map = found
                break
        new_home = self._map.owners[self._home_slot]
        if new_home is not None and new_home != home:
            self._node(new_home).distrust()  # more is demanded of it now

    def _candidates(self, avoid: Node | None) -> Iterator[HostPort]:
        """Servers to ask, those that answered last first, the one in doubt last."""
        known = dict(self._nodes)
        doubtful = [host for host, node in known.items() if node is avoid or node.is_away]
        yield from (host for host in known if host not in doubtful)
        yield from (host for host in self._address.hosts if host not in known)
        yield from doubtful

    def _ask(self, host: HostPort) -> _Map | None:
        """The map as this server has it, over a connection of its own; None where it gives none."""
        raw = node_maker(self._address, host)(_ASK_TIMEOUT)
        try:
            raw.connect()
            raw.send_packed_command([pack("CLUSTER", "SLOTS")])
            return _map_of(raw.read_response(), host[0])
        except (redis.RedisError, OSError, ValueError):
            return None
        finally:
            raw.disconnect()


def slot_of(key: str) -> int:
    slot: int = key_slot(key.encode())
    return slot


def _map_of(ranges: Sequence[Any], asked: str) -> _Map | None:
    owners: list[HostPort | None] = [None] * _SLOTS
    for first, last, (name, port, *_), *_ in ranges:
        # A server that does not know its own name leaves it out: it is the one that was asked.
        owners[first : last + 1] = [(name or asked, port)] * (last + 1 - first)
    return _Map(owners=owners) if ranges else None
