"""The Python program that Envoy runs in tests. It runs one service at a time, as orders from a pipe say."""

import multiprocessing.connection
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from operator import attrgetter
from pathlib import Path

from identity_service import bootstrap
from identity_service.domain.audit import AUDIT_ENTRIES
from identity_service.domain.ports import Clock
from identity_service.domain.store import Store
from identity_service.envoy.inside import Inside, sendable
from identity_service.envoy.plan import Plan
from identity_service.process.garbage import collect_seldom, skip_lasting_objects
from identity_service.storage.redis import RedisStore
from identity_service.storage.sqlite import SqliteStore
from identity_service.telemetry import logs
from tests.rpc.clocks import SharedClock
from tests.unsynced import unsynced


@dataclass(frozen=True, kw_only=True)
class StoreAddress:
    """A store and its address, from which another process can open it."""

    kind: str
    place: str
    audit_entries: int = AUDIT_ENTRIES
    """The number of events that the store keeps: this many of changes, and this many of traffic."""

    def open(self, clock: Clock) -> Store:
        keep = self.audit_entries
        if self.kind == "sqlite":
            return SqliteStore.open(self.place, clock=clock, audit_entries=keep, audit_traffic_entries=keep)
        return RedisStore.connect(self.place, clock=clock, audit_entries=keep, audit_traffic_entries=keep)


@dataclass(frozen=True, kw_only=True)
class StartOrder:
    """An order to start a service."""

    plan: Plan
    store: StoreAddress
    clock: Path


@dataclass(frozen=True, kw_only=True)
class CallOrder:
    """An order to call the function at an attribute path of the service."""

    path: str
    args: tuple[object, ...]
    named: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class StalenessOrder:
    """An order to return the staleness of the service in seconds."""


class Host(Inside):
    """Answers each order with its result or its exception. The order None stops the service."""

    def begin(self, pipe: multiprocessing.connection.Connection) -> None:
        logs.configure("info", "json")
        bootstrap._KEYS_INTERVAL = timedelta(hours=1)  # the counts of a test do not change
        skip_lasting_objects()
        collect_seldom()
        threading.Thread(target=self._serve, args=[pipe], daemon=True).start()

    def _serve(self, pipe: multiprocessing.connection.Connection) -> None:
        with suppress(EOFError, OSError):
            while True:
                order = pipe.recv()
                try:
                    pipe.send(self._obeyed(order))
                except Exception as error:  # noqa: BLE001  # the test decides about it
                    pipe.send(sendable(error))
        self.end_without_parent()

    def _obeyed(self, order: StartOrder | CallOrder | StalenessOrder | None) -> object:
        match order:
            case None:
                return self.stop()
            case CallOrder():
                return attrgetter(order.path)(self.service)(*order.args, **order.named)
            case StalenessOrder():
                return self.service._replica.staleness if self.service is not None else None
            case StartOrder():
                clock = SharedClock(order.clock)
                with unsynced():
                    store = order.store.open(clock)
                self.start(order.plan, clock=clock, store=store)
                return None


app = Host()
