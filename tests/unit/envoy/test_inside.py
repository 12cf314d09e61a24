"""The Python process that Envoy runs ends soon after its parent, even while it is already stopping."""

import os
import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import pytest

from identity_service.envoy.inside import Inside
from identity_service.process import last_resort
from tests.patience import PATIENCE, until

LONG = timedelta(minutes=10)


class Draining:
    """A service whose stop waits until the test allows it."""

    def __init__(self) -> None:
        self.certificates = None
        self.graces: list[timedelta | None] = []
        self.may_end = threading.Event()

    def stop(self, grace: timedelta | None = None) -> bool:
        self.graces.append(grace)
        assert self.may_end.wait(PATIENCE)
        return True


class LastResort:
    """Records how often the timer that ends the process was set, and for how long."""

    def __init__(self) -> None:
        self.armed: list[float] = []

    def arm(self, seconds: float) -> None:
        self.armed.append(seconds)


class Site:
    def __init__(self) -> None:
        self.inside, self.service, self.resort = Inside(), Draining(), LastResort()
        anything: Any = self.inside
        anything.service, anything._last_resort = self.service, self.resort
        self.parent, self.own = Pipe()
        self.thread = threading.Thread(target=self.inside._await_stop, args=[self.own], daemon=True)
        self.thread.start()


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda _, number: sent.append(number))
    return sent


@pytest.fixture
def site(signals: list[int]) -> Iterator[Site]:
    site = Site()
    yield site
    site.service.may_end.set()
    site.thread.join(PATIENCE)


SOON = (last_resort.ORPHANED_GRACE + timedelta(seconds=last_resort.INSIDE)).total_seconds()


def test_a_parent_that_ends_brings_the_end_forward_while_the_service_drains(
    site: Site, signals: list[int]
) -> None:
    site.parent.send(LONG)
    until(lambda: site.service.graces == [LONG])
    assert site.resort.armed == [LONG.total_seconds() + last_resort.INSIDE]

    site.parent.close()

    until(lambda: site.resort.armed[1:] == [SOON])
    assert signals == []
    site.service.may_end.set()
    until(lambda: signals == [signal.SIGTERM])


def test_a_parent_that_waits_for_the_answer_brings_nothing_forward(site: Site, signals: list[int]) -> None:
    site.parent.send(LONG)
    until(lambda: site.service.graces == [LONG])

    site.service.may_end.set()

    parent: Connection = site.parent
    assert parent.recv() is True
    assert len(site.resort.armed) == 1
    parent.close()
    until(lambda: signals == [signal.SIGTERM])


def test_a_parent_that_ends_first_leaves_calls_little_time(site: Site) -> None:
    site.parent.close()

    until(lambda: site.service.graces == [last_resort.ORPHANED_GRACE])
    assert site.resort.armed == [SOON]
