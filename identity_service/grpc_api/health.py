"""grpc.health.v1: grpcio's servicer, told of the end of calls by a thread of its own.

That servicer sends, and forgets a watcher that has left, under one lock. grpcio tells of the end of a call on
the thread that also tells that something was sent: while one client was sent its first status and another one
left, the first waited for that thread, and that thread for the lock. Then no call was answered any more.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2


class HealthServicer(health.HealthServicer):  # type: ignore[misc]  # it ships no types
    """Watches cost no threads."""

    def __init__(self) -> None:
        super().__init__(experimental_non_blocking=True)
        self._telling = ThreadPoolExecutor(1, "identity-health-ended")

    def Watch(  # noqa: N802  # the stub's name
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.ServicerContext,
        send_response_callback: Callable[[Any], None] | None = None,
    ) -> Any:
        return super().Watch(request, _ToldLater(context, self._telling), send_response_callback)


class _ToldLater:
    """A context whose callbacks do not hold up who calls them; the servicer uses nothing else of it."""

    def __init__(self, context: grpc.ServicerContext, thread: ThreadPoolExecutor) -> None:
        self._context = context
        self._thread = thread

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return self._context.add_callback(lambda: self._tell(callback))

    def _tell(self, callback: Callable[[], None]) -> None:
        self._thread.submit(callback)
