"""All metrics of the service: from services with HTTP and with TLS, alone and as a worker."""

import multiprocessing
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from identity_service.serving.worker_metrics import WorkerMetrics
from identity_service.storage.sqlite import SqliteStore
from tests.patience import PATIENCE, until
from tests.ports import reserve_address
from tests.rpc.conftest import running, settings_for_tests
from tests.rpc.world import API, World
from tests.scrape import Scrape, scrape
from tests.tls import Certifier


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scrape]:
    """Yield the metrics of a plain service, one with TLS, and a worker, as a single scrape."""
    folder = tmp_path_factory.mktemp("deploy")
    plain, with_tls = reserve_address(), reserve_address()
    with ExitStack() as stack:
        world = stack.enter_context(
            _world(
                folder / "plain", metrics_listen=plain, http_listen="127.0.0.1:0", issuer="https://id.example"
            )
        )
        certificate = Certifier(folder / "tls").server()
        stack.enter_context(_world(folder / "secured", metrics_listen=with_tls, **certificate.settings()))
        _load(world)
        until(lambda: scrape(plain).has("http_requests_total", status="200"))
        yield Scrape([*scrape(plain).families, *scrape(with_tls).families, *_as_worker(world).families])


def _world(folder: Path, **changes: Any) -> Any:
    folder.mkdir()
    return running(
        settings_for_tests(**changes),
        lambda clock: SqliteStore.open(str(folder / "identity.db"), clock=clock),
    )


def _load(world: World) -> None:
    tokens = world.issue(world.new_user())
    world.refresh(tokens.refresh_token)
    for _ in range(2):
        world.verify(tokens.access_token, audiences=[API])
    with suppress(grpc.RpcError):
        world.refresh("no refresh token")
    with urllib.request.urlopen(f"http://127.0.0.1:{world.service.http_port}/livez", timeout=PATIENCE):
        pass


def _as_worker(world: World) -> Scrape:
    """Return the metrics that a supervisor shows if this service is its worker."""
    metrics, stopping = WorkerMetrics(), threading.Event()
    receiver, sender = multiprocessing.Pipe(duplex=False)
    metrics.follow(receiver)
    sending = threading.Thread(target=world.service._metrics.send, args=[sender, stopping])
    sending.start()
    until(lambda: Scrape([*metrics.collect()]).has("identity_fresh", worker="0"))
    found = Scrape([*metrics.collect()])
    stopping.set()
    sending.join()
    return found
