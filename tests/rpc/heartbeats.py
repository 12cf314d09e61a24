"""The heartbeats of a service in this process, which a test can hold back or send immediately.

The service itself pauses for 50 ms between two. A test that moves a clock a thousand times would otherwise
wait for most of a minute.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from identity_service.bootstrap import Service
from identity_service.domain.errors import UnavailableError
from tests.patience import until


class Heartbeats:
    """Sends the heartbeats of one service, one at a time."""

    def __init__(self, service: Service) -> None:
        """Take over the heartbeats of a service that has not started yet."""
        self._service = service
        self._one_at_a_time = threading.Lock()
        self._send = service._replica.heartbeat
        service._replica.heartbeat = self._send_alone  # type: ignore[method-assign]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the present heartbeat to end, and let no other one begin until the block ends."""
        with self._one_at_a_time:
            yield

    @contextmanager
    def met(self) -> Iterator[None]:
        """Let the block move the service's clock between two heartbeats, and then send one."""
        with self._one_at_a_time:
            yield
            until(self._is_confirmed)

    def _send_alone(self, process: str) -> None:
        with self._one_at_a_time:
            self._send(process)

    def _is_confirmed(self) -> bool:
        """Send a heartbeat; return whether it was confirmed or the service has stopped."""
        (thread,) = (each for each in self._service._threads if each.name == "identity-heartbeat")
        if thread.stopping.is_set():
            return True
        replica = self._service._replica
        sent = replica._clock.monotonic()
        try:
            self._send(self._service._follower._process)
        except UnavailableError:
            return False
        return replica._clock.monotonic() - replica.staleness >= sent
