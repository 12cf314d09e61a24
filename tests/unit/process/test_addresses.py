"""An address that cannot be bound: the error names the setting, the system's reason, and a remedy."""

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from identity_service.domain.errors import ConfigurationError
from identity_service.grpc_api.grpcio_engine import GrpcioConfig, GrpcioEngine
from identity_service.process.addresses import cannot_listen, reserved, why_not_bound
from identity_service.transport.limits import Limits, LimitsConfig
from tests.fakes.event_logs import RecordingEventLog


@pytest.fixture
def taken() -> Iterator[str]:
    """Yield an address on which the test itself listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_for_an_address_in_use_it_says_to_stop_the_other_process(taken: str) -> None:
    with (
        pytest.raises(
            ConfigurationError, match="stop the process that listens there, or change `mtls_listen`"
        ),
        reserved(taken, "mtls_listen"),
    ):
        pass


def test_for_a_port_that_needs_a_privilege_it_names_the_privilege() -> None:
    error = cannot_listen("0.0.0.0:443", "listen", OSError(errno.EACCES, os.strerror(errno.EACCES)))

    assert str(error) == (
        "cannot listen on 0.0.0.0:443 (Permission denied): set `listen` to a port from 1024 on, or grant the "
        "capability NET_BIND_SERVICE"
    )


def test_for_an_address_of_another_machine_it_says_to_name_one_of_this() -> None:
    assert "set `listen` to an address of this machine" in str(why_not_bound("192.0.2.1:50051", "listen"))


def test_grpcio_gives_the_same_reason(taken: str) -> None:
    events = RecordingEventLog()
    engine = GrpcioEngine(GrpcioConfig(listen=taken), Limits(LimitsConfig(), events), events)

    with pytest.raises(ConfigurationError) as refused:
        engine.start()

    assert str(refused.value) == str(why_not_bound(taken, "listen"))
    assert "Address already in use" in str(refused.value)


def test_an_address_is_free_right_after_a_service_there_has_closed_its_connections() -> None:
    with socket.socket() as listening, socket.socket() as client:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        client.connect(listening.getsockname())
        listening.accept()[0].close()  # the side that closes first keeps the connection, in TIME_WAIT
        assert client.recv(1) == b""

    with reserved(address, "listen") as place:
        assert place == address
