"""grpc.health.v1: the serving status of this process.

A client that does not read its watch delays no other client.
"""

import threading
from collections.abc import Callable
from typing import Final

import grpc
from grpc_health.v1 import health_pb2

from identity_service.grpc_api.calls import Call
from identity_service.grpc_api.engine import ResponseStream
from identity_service.grpc_api.senders import Senders

SERVICE_NAME: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

Status = health_pb2.HealthCheckResponse.ServingStatus.ValueType


class _Watch:
    """One call of Watch. Implements `Source`; only the latest status is sent, so there is no queue."""

    overflowed = False

    def __init__(self, read: Callable[[], bytes]) -> None:
        """Create a watch to which nothing was sent; `read` returns the serialized current status."""
        self._read = read
        self._sent: bytes | None = None

    def take(self) -> bytes | None:
        """Return the current status, or None if it was sent already."""
        message = self._read()
        if message == self._sent:
            return None
        self._sent = message
        return message

    def last(self) -> bytes | None:
        """Return the current status, or None if it was sent already."""
        return self.take()


class HealthServicer:
    """A servicer that answers Check and List from memory, and sends each change of a status to watchers."""

    def __init__(self, senders: Senders) -> None:
        self._senders = senders
        self._lock = threading.Lock()
        self._statuses: dict[str, int] = {}
        self._watches: dict[str, set[_Watch]] = {}
        self._final = False

    @property
    def is_serving(self) -> bool:
        """Return whether the status of the server as a whole is SERVING."""
        return bool(self._statuses.get("") == health_pb2.HealthCheckResponse.SERVING)

    def set(self, service: str, status: int) -> None:
        """Change the status of a service and notify its watchers. Ignored after a graceful shutdown began."""
        with self._lock:
            if self._final or self._statuses.get(service) == status:
                return
            self._statuses[service] = status
            watches = tuple(self._watches.get(service, ()))
        for watch in watches:
            self._senders.wake(watch)

    def enter_graceful_shutdown(self) -> None:
        """Set the status of every service to NOT_SERVING; later changes are ignored."""
        with self._lock:  # in one step, or another thread could set the last status
            self._final = True
            self._statuses = dict.fromkeys(self._statuses, health_pb2.HealthCheckResponse.NOT_SERVING)
            watches = [watch for same in self._watches.values() for watch in same]
        for watch in watches:
            self._senders.wake(watch)

    def check(self, request: health_pb2.HealthCheckRequest, call: Call) -> health_pb2.HealthCheckResponse:
        """Return the status of a service; NOT_FOUND if the service is unknown."""
        status = self._statuses.get(request.service)
        if status is None:
            call.context.set_code(grpc.StatusCode.NOT_FOUND)
            call.context.set_details("there is no service of this name")
        return health_pb2.HealthCheckResponse(status=status)

    def list(self, _request: health_pb2.HealthListRequest, _call: Call) -> health_pb2.HealthListResponse:
        """Return the status of every service."""
        statuses = {
            name: health_pb2.HealthCheckResponse(status=status) for name, status in self._statuses.items()
        }
        return health_pb2.HealthListResponse(statuses=statuses)

    def watch(self, request: health_pb2.HealthCheckRequest, call: Call, stream: ResponseStream) -> None:
        """Send the status of a service, and each change of it, until the stream ends."""
        service = request.service
        watch = _Watch(lambda: self._message(service))
        with self._lock:
            self._watches.setdefault(service, set()).add(watch)
        self._senders.add(watch, stream, call.request_id, lambda: self._forget(service, watch))

    def _message(self, service: str) -> bytes:
        status = self._statuses.get(service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        message: bytes = health_pb2.HealthCheckResponse(status=status).SerializeToString()
        return message

    def _forget(self, service: str, watch: _Watch) -> None:
        with self._lock:
            watches = self._watches.get(service)
            if watches is not None:
                watches.discard(watch)
                if not watches:  # clients choose the names, so unused ones must not stay in memory
                    del self._watches[service]
