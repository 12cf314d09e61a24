"""The metrics that a process serves over HTTP."""

import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from identity_service.adapters.clock import SystemClock
from identity_service.domain.errors import ConfigurationError, UnsafeStoreError
from identity_service.domain.ids import TokenId, new_epoch
from identity_service.domain.log import TokenDenied
from identity_service.replication.replica import Replica, ReplicaConfig
from identity_service.storage.sqlite import SqliteStore
from identity_service.telemetry.logs import StructuredEventLog
from identity_service.telemetry.metrics import Metrics
from identity_service.transport.limits import Limits, LimitsConfig
from tests.fakes.event_logs import RecordingEventLog
from tests.patience import PATIENCE


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    metrics = Metrics()
    yield metrics
    metrics.close()


def ask(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (x.rsplit(" ", 1) for x in lines if not x.startswith("#"))}


def test_the_metrics_show_the_state_of_the_replica_and_its_staleness(metrics: Metrics) -> None:
    clock = SystemClock()
    store = SqliteStore.open(":memory:", clock=clock)
    store.initialise(new_epoch())
    replica = Replica(
        store.log, clock, RecordingEventLog(), ReplicaConfig(max_staleness=timedelta(seconds=PATIENCE))
    )
    metrics.watch(replica)
    port = metrics.serve("127.0.0.1:0")

    assert ask(port)["identity_fresh"] == 0
    assert ask(port)["identity_staleness_seconds"] == float("inf")
    store.facts.deny_token(TokenId("t1"), datetime.now(UTC) + timedelta(hours=1))
    replica.load()
    replica.heartbeat("p")
    replica.add_unconfirmed(
        TokenDenied(token_id=TokenId("t2"), deny_until=datetime.now(UTC) + timedelta(hours=1))
    )

    said = ask(port)
    assert said["identity_fresh"] == 1
    assert 0 <= said["identity_staleness_seconds"] < PATIENCE
    assert said["identity_log_position"] == 1
    assert said["identity_denials"] == 2
    assert said["identity_unconfirmed_revocations"] == 1
    store.close()


def test_events_are_counted_on_their_way_to_the_log(metrics: Metrics) -> None:
    event_log = StructuredEventLog(metrics.counted)
    port = metrics.serve("127.0.0.1:0")
    assert ask(port)['identity_events_total{event="log_repaired"}'] == 0

    with capture_logs() as logged:
        event_log.record("log_repaired", known=3, absent=1)
        event_log.record("token_issued", token_id="t")

    assert ask(port)['identity_events_total{event="log_repaired"}'] == 1
    assert [entry["event"] for entry in logged] == ["log_repaired", "token_issued"]


def test_a_port_that_is_taken_is_an_error_that_names_the_setting(metrics: Metrics) -> None:
    port = metrics.serve("127.0.0.1:0")
    with pytest.raises(ConfigurationError, match="metrics_listen"):
        Metrics().serve(f"127.0.0.1:{port}")


def test_the_metrics_show_whether_the_store_is_unsafe(metrics: Metrics, tmp_path: Path) -> None:
    clock, file = SystemClock(), tmp_path / "identity.db"
    event_log = StructuredEventLog(metrics.counted)
    store = SqliteStore.open(str(file), clock=clock, event_log=event_log)
    store.initialise(new_epoch())
    replica = Replica(store.log, clock, event_log, ReplicaConfig(max_staleness=timedelta(0)))
    metrics.watch(replica)
    port = metrics.serve("127.0.0.1:0")
    replica.load()
    replica.heartbeat("p")
    assert ask(port)["identity_store_unsafe"] == 0

    file.rename(tmp_path / "away.db")
    with pytest.raises(UnsafeStoreError):
        replica.heartbeat("p")
    assert ask(port)["identity_store_unsafe"] == 1
    assert ask(port)['identity_events_total{event="store_refused"}'] == 1
    with pytest.raises(UnsafeStoreError, match="move it back"):
        replica.require_fresh()

    (tmp_path / "away.db").rename(file)
    replica.heartbeat("p")
    assert ask(port)["identity_store_unsafe"] == 0
    assert ask(port)['identity_events_total{event="store_mended"}'] == 1
    store.close()


def test_it_says_how_many_calls_wait_to_be_refused(metrics: Metrics) -> None:
    limits = Limits(LimitsConfig(), RecordingEventLog(), monotonic=lambda: 0.0)
    metrics.show_limits(limits)
    port = metrics.serve("127.0.0.1:0")

    before = ask(port)["identity_refusals_waiting"]
    for _ in range(60):
        limits.turns.take()

    assert (before, ask(port)["identity_refusals_waiting"]) == (0, 10)
