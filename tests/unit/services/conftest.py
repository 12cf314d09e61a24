"""Stores for the tests of use cases that need a real one."""

from collections.abc import Iterator

import pytest

from identity_service.adapters.clock import SystemClock
from identity_service.domain.ids import new_epoch
from identity_service.storage.sqlite import SqliteStore
from tests.unit.services.use_case_site import UseCaseSite, open_site


@pytest.fixture
def store() -> Iterator[SqliteStore]:
    """Yield an initialised store in memory."""
    store = SqliteStore.open(":memory:", clock=SystemClock())
    store.initialise(new_epoch())
    yield store
    store.close()


@pytest.fixture
def site() -> Iterator[UseCaseSite]:
    """Yield the use cases of one process, on a store whose only principal is the client `admin`."""
    with open_site() as site:
        yield site
