"""The store that measures its operations returns what the real store returns."""

from typing import Any, cast

import pytest

from identity_service.domain.errors import NotFoundError, StoreUnavailableError
from identity_service.domain.principals import Client
from identity_service.telemetry.measured_store import MeasuredStore


class Part:
    """One part of a store; its operations raise `error` if it is set."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.size = 3

    def get(self, kind: object, id_: str) -> tuple[object, str]:
        if self.error is not None:
            raise self.error
        return kind, id_

    def wait(self, after: int, timeout: float) -> None:
        """Return at once."""


class FakeStore:
    def __init__(self) -> None:
        self.records = self.log = Part()


@pytest.fixture
def store() -> Any:
    return FakeStore()


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (StoreUnavailableError("down"), "unavailable"),
        (NotFoundError("none"), "refused"),
        (RuntimeError("bug"), "bug"),
    ],
)
def test_an_operation_that_fails_counts_under_its_outcome_and_raises(
    store: Any, error: Exception, outcome: str
) -> None:
    measured = MeasuredStore(store)
    store.records.error = error
    with pytest.raises(type(error)):
        measured.records.get(Client, "c")
    assert {k: h.count for k, h in measured.durations.read().items()} == {("records.get", outcome): 1}


def test_an_operation_passes_its_arguments_and_its_result(store: Any) -> None:
    measured = MeasuredStore(store)
    assert cast("Any", measured.records.get(Client, id_="c")) == (Client, "c")
    assert {k: h.count for k, h in measured.durations.read().items()} == {("records.get", "ok"): 1}


def test_values_and_the_wait_for_changes_are_not_measured(store: Any) -> None:
    measured = MeasuredStore(store)
    measured.log.wait(1, 0.0)
    assert cast("Any", measured.log).size == 3
    assert measured.durations.read() == {}
