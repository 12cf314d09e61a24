"""The keeper of keys: says once what goes wrong, and goes on."""

import threading
from datetime import timedelta

import pytest

from identity_service.domain.errors import StoreUnavailableError
from identity_service.services.key_keeper import KeyKeeper
from tests.patience import PATIENCE


class EventLog:
    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []

    def record(self, event: str, **fields: object) -> None:
        self.events.append((event, fields["error"]))


@pytest.mark.parametrize(
    ("error", "said"),
    [(StoreUnavailableError("the store is away"), "the store is away"), (KeyError("a secret"), "KeyError")],
    ids=["foreseen", "a bug"],
)
def test_it_goes_on_after_what_went_wrong_and_says_so_once(error: Exception, said: str) -> None:
    """A thread that ended would let the last key sign for ever."""
    event_log, tries, went_well = EventLog(), list[int](), threading.Event()

    def maintain() -> int:
        tries.append(1)
        if len(tries) <= 2:
            raise error
        went_well.set()
        return 0

    keeper = KeyKeeper(maintain, event_log, interval=timedelta(milliseconds=1))
    keeper.start()
    assert went_well.wait(PATIENCE)
    keeper.close()
    keeper.join(PATIENCE)

    assert event_log.events == [("keys_not_maintained", said)]
