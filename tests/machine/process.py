"""A service process that sends heartbeats, and maintains log and keys, only when the machine orders it.

Everything else is real: the store, the gRPC server on loopback, the replica, Watch. The process can be
paused, stopped and restarted. The module does not know which tokens are revoked.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any, Final
from unittest.mock import patch

import grpc

from identity_service import bootstrap
from identity_service.bootstrap import Service
from identity_service.domain.errors import IdentityError, NotReadyError, UnavailableError
from identity_service.domain.ports import EventLog, PasswordHasher
from identity_service.domain.store import Store
from identity_service.process.background import BackgroundThread
from identity_service.replication.replica import Replica
from identity_service.telemetry import logs
from identityapi.v1 import admin_service_pb2_grpc as admin_rpc
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as rpc
from tests.fakes.event_logs import RecordingEventLog
from tests.machine.clocks import PartyClock
from tests.patience import PATIENCE
from tests.ports import reserve_port
from tests.rpc.conftest import settings_for_tests
from tests.rpc.world import failure

OpenStore = Callable[[PartyClock, EventLog], Store]

HEARTBEAT: Final = 0.5
"""Seconds between two heartbeats, as in the default settings."""
MAX_STALENESS: Final = 5.0
REFUSALS: Final = frozenset(
    {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND}
)
"""The status codes with which a call of the machine may fail. Any other, such as INTERNAL, is a bug."""
_BY_THE_MACHINE: Final = tuple(f"identity-{name}" for name in ("follow", "heartbeat", "maintenance", "keys"))


class _Thread(BackgroundThread):
    """A background thread of the service. It never starts if the state machine does its work."""

    def start(self) -> None:
        if self.name not in _BY_THE_MACHINE:
            super().start()


class Process:
    """A name, a clock and a port under which service processes run, one after the other."""

    def __init__(
        self,
        name: str,
        clock: PartyClock,
        open_store: OpenStore,
        hasher: PasswordHasher,
        event_log: RecordingEventLog,
    ) -> None:
        self.name = name
        self.clock = clock
        self.event_log = event_log
        self.settings: dict[str, object] = {}
        self.paused = False
        self.trouble = ""
        """The reason why the last heartbeat failed; empty if the heartbeat was confirmed."""
        self.life = 0
        """The number of processes that have been started here."""
        self._open_store = open_store
        self._hasher = hasher
        self._port = reserve_port()
        self._running = ExitStack()
        self._service: Service | None = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def runs(self) -> bool:
        return self._service is not None

    @property
    def works(self) -> bool:
        """Return whether the process runs and is not paused, so that calls may be made."""
        return self.runs and not self.paused

    @property
    def service(self) -> Service:
        assert self._service is not None, f"process {self.name} does not run"
        return self._service

    @property
    def replica(self) -> Replica:
        return self.service._replica

    @property
    def is_fresh(self) -> bool:
        return self.works and self.replica.is_fresh()

    @property
    def leeway(self) -> float:
        found = self.settings["leeway"]
        assert isinstance(found, timedelta)
        return found.total_seconds()

    def start(self) -> None:
        """Start a service process on the store. Raises UnavailableError."""
        with ExitStack() as cleanup:
            store = self._open_store(self.clock, self.event_log)
            cleanup.callback(store.close)
            settings = settings_for_tests(
                listen=self.target,
                max_staleness=timedelta(seconds=MAX_STALENESS),
                watch_heartbeat=timedelta(milliseconds=50),
                drain_grace=timedelta(0),
                rotate_every=timedelta(days=400),
                **self.settings,
            )
            with (
                patch.object(bootstrap, "BackgroundThread", _Thread),
                patch.object(bootstrap, "open_hasher", lambda _: self._hasher),
                patch.object(logs, "StructuredEventLog", lambda _: self.event_log),
            ):
                service = Service(settings, clock=self.clock, store=store)
                cleanup.callback(service.stop)
                self._stop_with(service)
                service.start()
            channel = cleanup.enter_context(grpc.insecure_channel(self.target, _OPTIONS))
            self.stub, self.admin_stub = (
                rpc.IdentityServiceStub(channel),
                admin_rpc.AdminServiceStub(channel),
            )
            self._running = cleanup.pop_all()
        self._service, self.trouble, self.paused = service, "", False
        self.life += 1

    def stop(self) -> None:
        """End the process, and with it everything that it has only in memory."""
        self._service = None
        self.paused = False
        self._running.close()

    def heartbeat(self) -> bool:
        """Send one heartbeat, then maintain log and keys; return whether the heartbeat was confirmed."""
        try:
            self.replica.heartbeat(self.service._follower._process)
        except UnavailableError as error:
            self.trouble = f"{type(error).__name__}: {error}"
            return False
        self.trouble = ""
        for task in (self.replica.maintenance.do, self.service._use.rotation.maintain):
            try:
                task()
            except IdentityError as error:
                self.trouble = f"{type(error).__name__}: {error}"
        self.service._apis.hub.send_heartbeats()
        return True

    def _stop_with(self, service: Service) -> None:
        """Keep Watch from sending events and from accepting streams while the process is paused."""
        replica: Any = service._replica

        def gated(require: Callable[[], None]) -> Callable[[], None]:
            def check() -> None:
                if self.paused:
                    raise NotReadyError("the process is paused")
                require()

            return check

        replica.require_clock, replica.require_ready = (
            gated(replica.require_clock),
            gated(replica.require_ready),
        )

    # Calls; each gives the answer, or the reason of the refusal.

    def verify(self, texts: Sequence[str]) -> list[str]:
        """Return for each token "" if it is good, else why the process rejects it or gives no answer."""
        requests = [pb.VerifyRequest(token=text, any_audience=True) for text in texts]
        answer = attempt(
            lambda: self.stub.VerifyBatch(pb.VerifyBatchRequest(requests=requests), timeout=PATIENCE)
        )
        if isinstance(answer, str):
            return [answer] * len(texts)
        return [_outcome(one) for one in answer.responses]

    def revoke(self, bearer: str, **target: Any) -> str:
        """Call Revoke; return "" if the call is acknowledged, else the reason of the refusal."""
        metadata = (("authorization", f"Bearer {bearer}"),)
        answer = attempt(
            lambda: (self.stub.Revoke(pb.RevokeRequest(**target), metadata=metadata, timeout=PATIENCE),)
        )
        return answer if isinstance(answer, str) else ""

    def refresh(self, request: pb.RefreshRequest) -> str:
        """Call Refresh; return "" if the call succeeds, else the reason of the refusal."""
        answer = attempt(lambda: self.stub.Refresh(request, timeout=PATIENCE))
        return answer if isinstance(answer, str) else ""


_OPTIONS: Final[Sequence[tuple[str, Any]]] = (("grpc.use_local_subchannel_pool", 1),)


def _outcome(answer: pb.VerifyResponse) -> str:
    if answer.HasField("rejected"):
        return pb.RejectionReason.Name(answer.rejected.reason).removeprefix("REJECTION_REASON_")
    return ""


def attempt(call: Callable[[], Any]) -> Any | str:
    """Make a call; return its answer, or a text with the reason of its refusal."""
    try:
        return call()
    except grpc.RpcError as error:
        found = failure(error)
        assert found.code in REFUSALS, found
        return found.reason
