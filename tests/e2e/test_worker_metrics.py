"""The metrics of a service with workers: sums over all workers, even after one has died or was renewed."""

import http.client
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from identityapi.v1 import identity_service_pb2 as pb
from tests.e2e.calls import token_of
from tests.e2e.conftest import installed
from tests.e2e.descendants import children
from tests.e2e.process import Installation, Running
from tests.http.web.grpc_web import IDENTITY, ORIGIN, framed
from tests.patience import PATIENCE, until
from tests.ports import reserve_address
from tests.scrape import Scrape, scrape

WORKERS = 2
CLIENTS, CALLS = 8, 5
PER_LOAD = CLIENTS * (CALLS + 1)


class Site:
    """A service with workers, its metrics, and calls that reach both workers."""

    def __init__(self, installation: Installation, service: Running, address: str, web: str) -> None:
        self.installation = installation
        self.service = service
        self._address = address
        self._web = web
        self._token = token_of(installation, service)

    @property
    def metrics(self) -> Scrape:
        return scrape(self._address)

    @property
    def workers(self) -> set[int]:
        return children(self.service.process.pid, b"spawn_main")

    @property
    def verified(self) -> float:
        return self.metrics.value("grpc_server_handled_total", grpc_method="Verify", grpc_code="OK")

    def load(self) -> None:
        """Call Verify by gRPC and gRPC-Web, each time on new connections, so that both workers get calls."""
        for _ in range(CLIENTS):
            with self.service.client() as client:
                for _ in range(CALLS):
                    client.verify(self._token, any_audience=True)
            self._verify_by_grpc_web()

    def _verify_by_grpc_web(self) -> None:
        host, _, port = self._web.rpartition(":")
        message = framed(pb.VerifyRequest(token=self._token, any_audience=True))
        headers = {"content-type": "application/grpc-web+proto", "origin": ORIGIN}
        with closing(http.client.HTTPConnection(host, int(port), timeout=PATIENCE)) as connection:
            connection.request("POST", f"{IDENTITY}Verify", message, headers)
            connection.getresponse().read()

    def await_workers(self, *, ended: int) -> None:
        """Wait until all workers report metrics, after `ended` workers have ended."""
        until(
            lambda: (
                (found := self.metrics).value("identity_workers") == WORKERS
                and found.value("identity_workers_ended_total") == ended
                and found.value("identity_fresh") == WORKERS
            )
        )


@pytest.fixture(params=["grpcio", "envoy"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with installed("sqlite", tmp_path) as installation:
        address, web = reserve_address(), reserve_address()
        installation.environment |= {
            "IDENTITY_METRICS_LISTEN": address,
            "IDENTITY_HTTP_LISTEN": web,
            "IDENTITY_ISSUER": "https://id.example",
            "IDENTITY_WEB_ORIGINS": ORIGIN,
        }
        installation.init()
        installation.forked = True
        with installation.serve("--workers", str(WORKERS), "--engine", request.param) as service:
            until(lambda: "serving on" in installation.log)
            yield Site(installation, service, address, web)
            assert service.terminate() == 0


def test_the_counts_of_all_workers_add_up_through_the_death_of_one(site: Site) -> None:
    site.load()
    until(lambda: site.verified == PER_LOAD)
    site.await_workers(ended=0)
    found = site.metrics
    assert found.value("grpc_server_handling_seconds_count", grpc_method="Verify") == PER_LOAD
    assert found.value("identity_tokens_verified_total") == PER_LOAD
    assert not any("worker" in s.labels for s in found.samples if s.name.startswith("grpc_server"))
    for number in ("0", "1"):
        assert found.value("identity_fresh", worker=number) == 1
        assert found.value("process_resident_memory_bytes", worker=number) > 0
        assert found.value("process_cpu_seconds_total", worker=number) > 0
        assert found.has("identity_worker_report_age_seconds", worker=number)

    os.kill(min(site.workers), signal.SIGKILL)
    site.await_workers(ended=1)
    assert site.verified == PER_LOAD

    site.load()
    until(lambda: site.verified == 2 * PER_LOAD)
    found = site.metrics
    assert {s.labels["worker"] for s in found.samples if s.name == "identity_fresh"} == {"0", "1"}


def test_a_worker_that_is_renewed_sends_its_last_counts(site: Site) -> None:
    site.await_workers(ended=0)
    site.load()
    os.kill(site.service.process.pid, signal.SIGHUP)

    site.await_workers(ended=WORKERS)
    assert site.verified == PER_LOAD
