"""A connection on which no message arrives any more: its machine lost power, or the process hangs."""

import queue
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import grpc
import pytest

from identity_client import LocalVerifier, SilentError, TrustClient, WatchEvent
from identity_client.silence import Watchdog
from identityapi.v1 import trust_service_pb2 as pb
from identityapi.v1 import trust_service_pb2_grpc as rpc

pytestmark = pytest.mark.usefixtures("both_kinds")


PATIENCE = 30
SHORT = timedelta(milliseconds=100)


class SilentService:
    """A service whose streams send one message and then nothing; it records the peer of each."""

    def __init__(self) -> None:
        self.watched: queue.Queue[str] = queue.Queue()

    def _watch(self, request: pb.WatchRequest, context: grpc.ServicerContext) -> Iterator[pb.WatchResponse]:
        self.watched.put(context.peer())
        ended = threading.Event()
        context.add_callback(ended.set)
        yield pb.WatchResponse(revision="e.1")
        ended.wait(PATIENCE)

    def _get_keys(self, request: pb.GetKeysRequest, context: grpc.ServicerContext) -> pb.GetKeysResponse:
        return pb.GetKeysResponse()

    Watch, GetKeys = _watch, _get_keys


@contextmanager
def serving(service: SilentService, target: str) -> Iterator[str]:
    with ThreadPoolExecutor(max_workers=8) as threads:
        server = grpc.server(threads)
        servicer: Any = service
        rpc.add_TrustServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port(target)
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


def opened(client: TrustClient) -> Iterator[WatchEvent]:
    """Open streams with a short limit until one of them receives its first message in time."""
    while True:
        watch = client.watch(max_silence=SHORT)
        with suppress(SilentError):
            next(watch)
            return watch


@pytest.fixture
def service() -> SilentService:
    return SilentService()


@pytest.fixture
def target(service: SilentService) -> Iterator[str]:
    with serving(service, "127.0.0.1:0") as target:
        yield target


def test_a_stream_that_falls_silent_is_given_up_with_its_connection(
    service: SilentService, target: str
) -> None:
    """On a dead connection the next stream would be silent too, until TCP reports an error."""
    with TrustClient(target) as client:
        for _ in range(2):
            watch = opened(client)
            with pytest.raises(SilentError, match=r"nothing for 0\.1 s"):
                next(watch)

    assert service.watched.get() != service.watched.get()


def test_without_a_limit_it_waits(service: SilentService, target: str) -> None:
    """In contrast to the test before, the first stream is still open when the second begins."""
    with TrustClient(target) as client:
        first, second = client.watch(), client.watch()
        assert next(first).revision == next(second).revision

        assert service.watched.get() == service.watched.get(), "both on one connection"


def test_a_channel_of_the_callers_own_is_left_to_the_caller(target: str) -> None:
    with grpc.insecure_channel(target) as channel, TrustClient(channel=channel) as client:
        with pytest.raises(SilentError):
            list(client.watch(max_silence=SHORT))

        client.get_keys()


def test_a_connection_that_is_never_answered_is_given_up_and_the_successor_found(
    service: SilentService,
) -> None:
    """For a process that hangs, the kernel still accepts connections, and gRPC would wait for 20 s."""
    with TrustClient(f"127.0.0.1:{(hanging := _listening()).getsockname()[1]}") as client:
        with hanging, pytest.raises(SilentError):
            next(client.watch(max_silence=SHORT))
        with serving(service, client._target):
            assert next(client.watch()).revision == "e.1"


def test_a_verifier_leaves_a_silent_service_by_itself(service: SilentService, target: str) -> None:
    with LocalVerifier(target, issuer="i", max_staleness=SHORT):
        connections = {service.watched.get(timeout=PATIENCE) for _ in range(3)}

    assert len(connections) == 3


def test_a_client_that_was_closed_connects_no_more(service: SilentService, target: str) -> None:
    client = TrustClient(target)
    opened(client)
    client.close()

    client._reconnect()

    with pytest.raises(Exception, match="closed"):
        client.get_keys()


class ClockedWatchdog:
    """A watchdog with a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.given_up = 0
        self.watchdog = Watchdog(self._give_up, 2.0, steady=lambda: self.now)

    def _give_up(self) -> None:
        self.given_up += 1

    def look(self, after: float) -> float:
        self.now += after
        return self.watchdog.look()


def test_nothing_is_given_up_while_messages_come_in_time() -> None:
    clocked = ClockedWatchdog()
    for _ in range(10):
        clocked.watchdog.expect(5.0)
        assert clocked.look(after=4.9) > 0
        clocked.watchdog.received()

    assert clocked.look(after=3600) > 0, "no wait counts while a message is being handled"
    assert clocked.given_up == 0


def test_it_is_given_up_when_the_time_is_over_and_only_once() -> None:
    clocked = ClockedWatchdog()
    clocked.watchdog.expect(5.0)

    left = [clocked.look(after=seconds) for seconds in (1.0, 2.5, 1.5)]

    assert left == [2.0, 1.5, 0.0]
    assert (clocked.given_up, clocked.watchdog.gave_up) == (1, True)


def test_a_process_that_slept_gives_up_at_its_first_look() -> None:
    clocked = ClockedWatchdog()
    clocked.watchdog.expect(5.0)

    assert clocked.look(after=3600) == 0.0
    assert clocked.given_up == 1


def _listening() -> socket.socket:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    return listening
