"""The grpcio engine stops even if the operating system gives it no thread for stopping."""

from typing import Any

import pytest

from identity_service.grpc_api.grpcio_engine import GrpcioConfig, GrpcioEngine
from identity_service.transport.limits import Limits, LimitsConfig
from tests.fakes.event_logs import RecordingEventLog
from tests.patience import PATIENCE


def test_without_room_for_a_thread_it_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    events = RecordingEventLog()
    limits = Limits(LimitsConfig(), events)
    engine = GrpcioEngine(GrpcioConfig(listen="127.0.0.1:0"), limits, events)
    engine.start()
    stop = engine._server.stop

    def without_threads(grace: float | None) -> Any:
        if grace is not None:
            raise RuntimeError("can't start new thread")
        return stop(grace)

    monkeypatch.setattr(engine._server, "stop", without_threads)

    assert engine.stop(10 * PATIENCE), "no call was cut off"
