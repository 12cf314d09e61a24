"""The heartbeats of a service in this process: a test holds them back, or sends one at once.

The service itself waits for 50 ms between two: a test that moves a clock a thousand times would wait for most
of a minute.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from identity_service.bootstrap import Service
from identity_service.domain.errors import UnavailableError
from tests.patience import until


class Heartbeats:
    """The heartbeats of one service, one after the other."""

    def __init__(self, service: Service) -> None:
        """Take the heartbeats over, before the service starts."""
        self._service = service
        self._one_at_a_time = threading.Lock()
        self._send = service._replica.heartbeat
        service._replica.heartbeat = self._send_alone  # type: ignore[method-assign]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no heartbeat begin until the block ends; the one that is under way is awaited."""
        with self._one_at_a_time:
            yield

    @contextmanager
    def met(self) -> Iterator[None]:
        """Let the block move the clock of the service, between two heartbeats; then send one."""
        with self._one_at_a_time:
            yield
            until(self._is_confirmed)

    def _send_alone(self, process: str) -> None:
        with self._one_at_a_time:
            self._send(process)

    def _is_confirmed(self) -> bool:
        """Send a heartbeat; return whether it was confirmed, or the service has stopped."""
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
