"""The counts of ended calls, by service, method, type and status code, with the labels of go-grpc-prometheus.

Dashboards and alerts that were made for other gRPC servers therefore work with this one as well.
"""

import time
from collections.abc import Callable
from typing import Final

import grpc

from identity_service.grpc_api.engine import ResponseStream
from identity_service.grpc_api.errors import RpcStatus
from identity_service.grpc_api.method_spec import MethodSpec
from identity_service.telemetry.counters import DurationsByLabels

_NAMES: Final = {
    code: "OK" if code is grpc.StatusCode.OK else "".join(word.capitalize() for word in code.name.split("_"))
    for code in grpc.StatusCode
} | {grpc.StatusCode.CANCELLED: "Canceled"}
"""The names of the status codes in Go, which all dashboards use."""


class CallCounts:
    """The ended calls of one server, and how long their handlers took."""

    def __init__(self) -> None:
        self.durations = DurationsByLabels("grpc_service", "grpc_method", "grpc_type", "grpc_code")
        self._labels: dict[str, tuple[str, str, str]] = {}

    def register(self, method: str, spec: MethodSpec | None) -> Callable[[float], None]:
        """Begin to count a method, by its full name; return the function that counts a call that ended OK.

        That function takes the duration of the call in seconds.
        """
        service, _, name = method.removeprefix("/").rpartition("/")
        self._labels[method] = service, name, "unary" if spec is None else spec.grpc_type
        return self.durations[*self._labels[method], _NAMES[grpc.StatusCode.OK]].add

    def add(self, method: str, code: grpc.StatusCode, started: float) -> None:
        """Count a call of a registered method that ended with this code, and began at this `perf_counter`."""
        self.durations[*self._labels[method], _NAMES[code]].add(time.perf_counter() - started)


class CountedStream:
    """A server stream that counts its call when the call has ended. Implements ResponseStream."""

    def __init__(self, stream: ResponseStream, count: Callable[[grpc.StatusCode], None]) -> None:
        """Wrap a stream; `count` is called with the code once the stream has ended after `watch`."""
        self._stream = stream
        self._count = count
        self.address, self.send = stream.address, stream.send
        self.cancel, self.is_active, self.on_end = stream.cancel, stream.is_active, stream.on_end
        self._code: grpc.StatusCode | None = None
        """The code with which the server has ended the stream; None = the client has ended it."""

    def end(self, status: RpcStatus | None) -> None:
        """End the stream after the messages sent so far."""
        if self._code is None:
            self._code = grpc.StatusCode.OK if status is None else status.code
        self._stream.end(status)

    def watch(self) -> None:
        """Count the call when it ends; if it has ended already, now."""
        if not self._stream.on_end(self._ended):
            self._ended()

    def _ended(self) -> None:
        self._count(self._code or grpc.StatusCode.CANCELLED)
