"""The heartbeats of a service in this process: a test can hold them back, or send one at once.

The service itself sends one every 50 ms. A test that moves a clock a thousand times and waits for a heartbeat
each time would take most of a minute.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from identity_service.bootstrap import Service
from identity_service.domain.errors import UnavailableError
from tests.patience import until


class Heartbeats:
    """Controls the heartbeats of one service, which are sent one at a time."""

    def __init__(self, service: Service) -> None:
        """Replace the function by which the service sends heartbeats.

        Must happen before the service starts.
        """
        self._service = service
        self._one_at_a_time = threading.Lock()
        self._send = service._replica.heartbeat
        service._replica.heartbeat = self._send_alone  # type: ignore[method-assign]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for a heartbeat that is in progress, and let no other begin until the block ends."""
        with self._one_at_a_time:
            yield

    @contextmanager
    def notices_a_move(self) -> Iterator[None]:
        """Let the block move the clock of the service while no heartbeat is in progress; then send one."""
        with self._one_at_a_time:
            yield
            until(self._is_confirmed)

    def _send_alone(self, process: str) -> None:
        with self._one_at_a_time:
            self._send(process)

    def _is_confirmed(self) -> bool:
        """Send a heartbeat; return True if the store confirmed it, or if the service has stopped."""
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
