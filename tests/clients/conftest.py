"""Fixtures for the tests of the Python client: both kinds of clients, and calls that carry a token.

Only the fixtures that need the service import it: `make test-oldest` runs tests of this folder without the
service.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from identity_client import AccessTokens
from tests.clients.both_kinds import TWINS, BlockingClass, Loop
from tests.clients.echo import Echo

if TYPE_CHECKING:
    from tests.clients.sources import Clock, SignIns
    from tests.rpc.world import World
    from tests.tls import Certifier


@pytest.fixture(scope="session")
def event_loop_of_tests() -> Loop:
    return Loop()


@pytest.fixture(params=["threads", "asyncio"])
def both_kinds(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, event_loop_of_tests: Loop
) -> str:
    kind = str(request.param)
    if kind == "asyncio":
        for name, twin in TWINS.items():
            if hasattr(request.module, name):
                monkeypatch.setattr(request.module, name, BlockingClass(event_loop_of_tests, twin))
    return kind


@pytest.fixture
def service(tmp_path: Path) -> Iterator["World"]:
    """The service on SQLite, with the clock of the system."""
    from identity_service.storage.sqlite import SqliteStore
    from tests.rpc.conftest import running, settings_for_tests

    settings = settings_for_tests()
    with running(settings, lambda clock: SqliteStore.open(str(tmp_path / "i.db"), clock=clock)) as world:
        yield world


@pytest.fixture
def sign_ins(service: "World") -> "SignIns":
    from tests.clients.sources import SignIns

    return SignIns(service)


@pytest.fixture
def clock() -> "Clock":
    from tests.clients.sources import Clock

    return Clock()


@pytest.fixture
def tokens(sign_ins: "SignIns", clock: "Clock") -> Iterator[AccessTokens]:
    from tests.clients.sources import source

    with source(sign_ins, clock) as tokens:
        yield tokens


@pytest.fixture
def echo(service: "World") -> Echo:
    return Echo(service.reason)


@pytest.fixture
def certifier(tmp_path: Path) -> "Certifier":
    from tests.tls import Certifier

    return Certifier(tmp_path / "tls")
