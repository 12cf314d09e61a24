"""A Redis Cluster: finds the server that owns a key, by CLUSTER SLOTS and by redirections (MOVED).

This module does not know which commands are sent. A slot that is being migrated (ASK, TRYAGAIN) is
unavailable until the migration is finished.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import redis
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, MovedError

from identity_service.domain.errors import StoreUnavailableError
from identity_service.storage.redis.client.address import Address, HostPort, maker
from identity_service.storage.redis.client.node import Node, pack
from identity_service.storage.redis.client.pool import RawConnection

_SLOTS: Final = 16384
_REFRESH_INTERVAL: Final = 0.2
"""The shortest time, in seconds, between two reads of the slot map: while a server is unavailable, every call
would read it."""
_ASK_TIMEOUT: Final = 0.5


SlotMap = Sequence[HostPort | None]
"""The owner of each of the 16,384 slots, None if it is not known. A map is replaced, never changed."""


class Cluster:
    """The servers of a cluster, found by the slots of keys. Thread-safe."""

    is_spread = True
    """True if two keys of different hash tags may lie on different servers."""

    def __init__(self, address: Address, home_key: str, make_node: Callable[[HostPort], Node]) -> None:
        """Find the servers of a cluster; nothing is opened before the first call.

        Args:
            address: the parsed URL, which names some of the servers.
            home_key: a key on the home server, the server of `{idn}`, which must meet more demands than the
                others.
            make_node: creates the node of one server.
        """
        self._address = address
        self._home_slot: Final = slot_of(home_key)
        self._make_node = make_node
        self._owners: SlotMap = (None,) * _SLOTS
        self._nodes: dict[HostPort, Node] = {}
        self._adding = threading.Lock()
        self._refreshing = threading.Lock()
        self._refreshed = float("-inf")

    def is_home(self, host: HostPort) -> bool:
        """Return whether this server owns the home key."""
        return self._owners[self._home_slot] == host

    def node_of(self, key: str) -> Node:
        """Return the node of the server that owns the key's slot; read the slot map if the owner is unknown.

        Raises StoreUnavailableError if no server is known to own the slot.
        """
        slot = slot_of(key)
        if self._owners[slot] is None:
            self._refresh(wait=True)
        owner = self._owners[slot]
        if owner is None:
            raise StoreUnavailableError("no server of the Redis Cluster answers for this key")
        return self._node(owner)

    def learn(self, node: Node, error: redis.RedisError | OSError | None) -> bool:
        """Take note of a failed call to `node`; return True if it should be sent again to the new owner.

        `error` None means that the server is unavailable, or that its circuit is open: the slot map is read
        again.
        """
        if isinstance(error, MovedError):
            self._refresh()
            # After the refresh: the map may come from a server that does not know of the move yet.
            self._set_owner(error.slot_id, (error.host or self._host_of(node), error.port))
            return True
        if error is None or isinstance(error, redis.ConnectionError | redis.TimeoutError | ClusterDownError):
            self._refresh(avoid=node)
        return False

    def primaries(self) -> Sequence[Callable[[float], RawConnection]]:
        """Return a factory of connections for each server that owns slots, that of the home server first.

        A factory takes the timeout of the connection in seconds.
        """
        self._refresh(wait=True)
        owners = {owner for owner in self._owners if owner is not None}
        home_first = sorted(owners, key=lambda owner: (not self.is_home(owner), owner))
        return [maker(self._address, owner) for owner in home_first]

    def close(self) -> None:
        """Close the connections to all servers."""
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

    def _set_owner(self, slot: int, owner: HostPort) -> None:
        with self._adding:
            owners = list(self._owners)
            owners[slot] = owner
            self._owners = owners
        if slot == self._home_slot:
            self._node(owner).distrust()  # it is the home server now and must meet more demands

    def _refresh(self, *, avoid: Node | None = None, wait: bool = False) -> None:
        """Read the slot map, unless it was read within the last 0.2 s or another thread is reading it.

        With `wait`, wait for that other thread first.
        """
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
        home = self._owners[self._home_slot]
        for host in self._candidates(avoid):
            if (found := self._ask(host)) is not None:
                self._owners = found
                break
        new_home = self._owners[self._home_slot]
        if new_home is not None and new_home != home:
            self._node(new_home).distrust()  # it is the home server now and must meet more demands

    def _candidates(self, avoid: Node | None) -> Iterator[HostPort]:
        """Yield servers to ask: known ones, then those of the URL, last `avoid` and unavailable ones."""
        known = dict(self._nodes)
        doubtful = [host for host, node in known.items() if node is avoid or node.is_away]
        yield from (host for host in known if host not in doubtful)
        yield from (host for host in self._address.hosts if host not in known)
        yield from doubtful

    def _ask(self, host: HostPort) -> SlotMap | None:
        """Return the slot map of this server, read over a new connection; None if that fails."""
        raw = maker(self._address, host)(_ASK_TIMEOUT)
        try:
            raw.connect()
            raw.send_packed_command([pack("CLUSTER", "SLOTS")])
            return _map_of(raw.read_response(), host[0])
        except (redis.RedisError, OSError, ValueError):
            return None
        finally:
            raw.disconnect()


def slot_of(key: str) -> int:
    """Return the hash slot of a key, 0 to 16383."""
    slot: int = key_slot(key.encode())
    return slot


def _map_of(ranges: Sequence[Any], asked: str) -> SlotMap | None:
    owners: list[HostPort | None] = [None] * _SLOTS
    for first, last, (name, port, *_), *_ in ranges:
        # A server that does not know its own host name leaves it out; it means the server that was asked.
        owners[first : last + 1] = [(name or asked, port)] * (last + 1 - first)
    return owners if ranges else None
