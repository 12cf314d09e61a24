"""Two real Redis servers both act as the primary, as happens if one of them was paused during a failover.

One process writes to the former primary over connections that it still holds, and reads from the elected
one.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.ids import TokenId, new_epoch
from identity_service.domain.log import GenerationRaised, RecordChanged
from identity_service.replication.replica import Replica, ReplicaConfig
from identity_service.storage.redis import RedisStore
from tests.conformance.replicas import OWN_WRITES
from tests.conformance.samples import LATER
from tests.fakes.clocks import FakeClock
from tests.fakes.event_logs import RecordingEventLog
from tests.redis_topology import TunedServer, info, say, until

_WRITES: Final = ("repair", "renew", "rebuild", "trim")


class Split:
    """A log that sends its writes to the store `writing`, and its reads to the store `reading`."""

    def __init__(self, reading: RedisStore, writing: RedisStore) -> None:
        self.reading, self.writing = reading, writing

    def __getattr__(self, name: str) -> Any:
        return getattr((self.writing if name in _WRITES else self.reading).log, name)

    def adopt(self, epoch: Any) -> None:
        self.reading.log.adopt(epoch)
        self.writing.log.adopt(epoch)


class Site:
    """A primary, its replica, and the replica of the log in one process that follows them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._stack = stack
        self.clock, self.event_log = FakeClock(), RecordingEventLog()
        self._former = TunedServer(folder / "former")
        self._elected = TunedServer(folder / "elected", replicaof=f"127.0.0.1 {self._former.port}")
        for server in (self._former, self._elected):
            server.start()
            stack.callback(server.stop)
        until(lambda: "state=online" in info(self._former.port).get("slave0", ""))
        self.former = self._connect(self._former)
        self.former.initialise(new_epoch())
        self.former.facts.deny_token(TokenId("before"), LATER)
        self.elected = self._connect(self._elected)
        until(lambda: self._has_all())
        self.store = Split(self.former, self.former)
        self.process = self._follow(self.store)

    def elect(self) -> None:
        """Promote the replica. The process reads from it now, but still writes to the former primary."""
        until(self._has_all)
        say(self._elected.port, "REPLICAOF NO ONE")
        self.elected.open_log()
        self.store.reading = self.elected

    def notice(self) -> None:
        """Have the process write to the elected primary, and resend its unconfirmed facts."""
        self.store.writing = self.elected
        self.process.heartbeat("p")
        self.process.maintenance.do()

    def newcomer(self) -> Replica:
        """Return the log replica of a process that has just started on the elected primary."""
        return self._follow(self._connect(self._elected).log)

    def _has_all(self) -> bool:
        offset = info(self._former.port)["master_repl_offset"]
        return f"offset={offset}," in info(self._former.port)["slave0"]

    def _connect(self, server: TunedServer) -> RedisStore:
        store = RedisStore.connect(server.url, clock=self.clock)
        self._stack.callback(store.close)
        return store

    def _follow(self, log: Any) -> Replica:
        replica = Replica(log, self.clock, self.event_log, ReplicaConfig())
        replica.load()
        replica.heartbeat("p")
        return replica


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


def known(replica: Replica) -> set[object]:
    """Return the denied ids and the raised principals that a replica of the log knows."""
    return {id_ for id_, _ in replica.revocations.denylist.items()} | {*replica.revocations.generations}


@pytest.mark.parametrize("name", OWN_WRITES)
def test_a_fact_that_the_former_primary_confirms_again_is_sent_until_the_elected_one_has_it(
    site: Site, name: str
) -> None:
    """The former primary has the fact already, and therefore confirms it; the elected one lacks it."""
    site.elect()
    written = OWN_WRITES[name](site.former)
    site.elected.facts.deny_token(TokenId("meanwhile"), LATER)
    site.process.heartbeat("p")
    site.process.learn(written)
    for _ in range(3):  # as often as it is tried
        with pytest.raises(StoreUnavailableError, match="another history"):
            site.process.maintenance.do()
        site.process.heartbeat("p")
    site.notice()

    assert known(site.newcomer()) == known(site.process)
    assert site.process.maintenance.unconfirmed == 0


@pytest.mark.parametrize("name", OWN_WRITES)
def test_a_fact_that_the_former_primary_confirms_beyond_the_elected_ones_end_is_sent_again(
    site: Site, name: str
) -> None:
    """The elected primary's log ends before the position of the fact, then gets another entry there."""
    site.process.learn(OWN_WRITES["a denial"](site.former))
    site.process.heartbeat("p")
    site.elect()
    (fact, link), *_ = OWN_WRITES[name](site.former).changes
    assert not isinstance(fact, RecordChanged)
    site.process.add_unconfirmed(replace(fact, origin=link) if isinstance(fact, GenerationRaised) else fact)
    site.process.maintenance.do()
    assert site.process.maintenance.unconfirmed == 0, "confirmed, but not yet read"
    site.elected.facts.deny_token(TokenId("meanwhile"), LATER)
    site.process.heartbeat("p")
    site.notice()

    assert known(site.newcomer()) == known(site.process)


@pytest.mark.parametrize("name", OWN_WRITES)
def test_two_writes_that_two_servers_acknowledged_at_one_position_both_last(site: Site, name: str) -> None:
    site.elect()
    site.process.learn(OWN_WRITES[name](site.former))
    site.process.learn(site.elected.facts.deny_token(TokenId("on-elected"), LATER))
    site.process.heartbeat("p")
    site.notice()

    assert known(site.newcomer()) == known(site.process) >= {"on-elected"}


def test_a_repair_on_the_former_primary_is_done_again_on_the_elected_one(site: Site) -> None:
    """Both primaries have the new epoch, but only the former primary has the repaired facts."""
    for number in range(600):
        site.process.learn(site.former.facts.deny_token(TokenId(f"t{number}"), LATER))
    site.process.heartbeat("p")
    say(site._former.port, "DEL {idn}:log")
    for number in range(600):
        say(site._former.port, f"DEL {{idn}}:deny:t{number}")
    site.process.heartbeat("p")  # which finds entries missing, and renews the epoch
    site.elect()
    site.process.maintenance.do()
    site.elected.facts.deny_token(TokenId("meanwhile"), LATER)
    site.process.heartbeat("p")
    site.notice()

    assert known(site.newcomer()) == known(site.process) >= {f"t{number}" for number in range(600)}
