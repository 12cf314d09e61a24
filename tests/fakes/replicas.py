"""A fake of the port `ReplicaView`."""

from collections.abc import Callable
from datetime import datetime

from identity_service.domain.change_log import NO_MARKS
from identity_service.domain.errors import ClockSkewedError, NotReadyError
from identity_service.domain.ids import NO_LINK, Epoch
from identity_service.domain.log import Appended, Fact, Revision
from identity_service.domain.revocations import Revocations
from identity_service.replication.history import History
from tests.fakes.clocks import FakeClock


class FakeReplica:
    """Implements the port `ReplicaView` without a log; a test sets what the replica knows."""

    def __init__(self, clock: FakeClock) -> None:
        self.revision = Revision(epoch=Epoch("e1"), position=0, link=NO_LINK)
        self.revocations = Revocations()
        self.marks = NO_MARKS
        self.history = History(self.revision.epoch)
        self.ready = self.clock_accepted = True
        self.confirmed = clock.monotonic()
        """The time at which the last confirmed heartbeat was sent, by the monotonic clock."""
        self.reads = 0
        """The number of times that a caller had the log read."""
        self.on_read: Callable[[], None] = lambda: None
        self._clock = clock

    @property
    def staleness(self) -> float:
        return self._clock.monotonic() - self.confirmed

    @property
    def latest_time(self) -> datetime:
        return self._clock.now()

    @property
    def held_time(self) -> datetime:
        return self._clock.now()

    def recognises(self, revision: Revision) -> bool:
        return self.history.holds(revision)

    def require_ready(self) -> None:
        if not self.ready:
            raise NotReadyError("not yet")

    def require_clock(self) -> None:
        self.require_ready()
        if not self.clock_accepted:
            raise ClockSkewedError("it was set")

    require_fresh = require_clock

    def reach(self, revision: Revision | None) -> None:
        assert revision is None, "no test names a revision"
        self.reads += 1
        self.on_read()

    def learn(self, appended: Appended) -> None:
        raise NotImplementedError

    def add_unconfirmed(self, fact: Fact) -> None:
        raise NotImplementedError
