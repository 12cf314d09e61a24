"""Reading the configuration of a Redis server that refuses to show it."""

import gc
from collections.abc import Iterator

import pytest
import redis

from identity_service.storage.redis.client.server_probe import read_setup


class ForbidsCommands:
    """A connection to a server that answers every command with an error."""

    is_connected = True

    def connect(self) -> None: ...

    def send_packed_command(self, command: list[bytes], check_health: bool = True) -> None: ...

    def read_response(self) -> object:
        raise redis.ResponseError("unknown command")

    def can_read(self) -> bool:
        return False

    def disconnect(self) -> None: ...


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_an_error_of_the_server_leaves_no_reference_cycle() -> None:
    """The probe is a part of a write, and a reference cycle would keep the whole call in memory."""
    for _ in range(10):
        read_setup(ForbidsCommands())

    assert gc.collect() < 10
