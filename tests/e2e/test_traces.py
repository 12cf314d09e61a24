"""Traces of a service as an operator runs it: with workers, environment and log, and without the extra."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1.identity_service_pb2_grpc import IdentityServiceStub
from tests.e2e.calls import token_of
from tests.e2e.process import Installation
from tests.otlp import Collector, collecting
from tests.patience import PATIENCE, until
from tests.tls import Certifier

SERVICE = "identityapi.v1.IdentityService"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = (("traceparent", f"00-{TRACE}-{SPAN}-01"),)
WITHOUT_EXTRA = """
import sys
sys.modules["opentelemetry"] = None
from identity_service.__main__ import main
main()
"""


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    found = Installation(tmp_path, "sqlite:///identity.db", forked=True)
    found.init()
    return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def traced(installation: Installation, collector: Collector, **more: str) -> Installation:
    installation.environment |= {"IDENTITY_TRACES_ENDPOINT": collector.endpoint} | more
    return installation


def refuse(target: str, metadata: Any = ()) -> None:
    """Call Refresh with an invalid token; the service logs the refusal, and stores an audit event."""
    with grpc.insecure_channel(target) as channel, pytest.raises(grpc.RpcError):
        IdentityServiceStub(channel).Refresh(pb.RefreshRequest(refresh_token="none"), metadata=metadata)


def refuse_caller(target: str, metadata: Any = ()) -> None:
    """Call Verify without a token that authenticates the caller, which the service refuses."""
    with grpc.insecure_channel(target) as channel, pytest.raises(grpc.RpcError):
        IdentityServiceStub(channel).Verify(pb.VerifyRequest(token="none"), metadata=metadata)


def traces_in_log(installation: Installation) -> list[str | None]:
    """Return the trace id in each log line about a refused call."""
    lines = [json.loads(line) for line in installation.log.splitlines() if line.startswith("{")]
    return [
        line.get("trace_id")
        for line in lines
        if line["event"] in ("refresh_refused", "call_refused")
        or line.get("method") in (f"/{SERVICE}/Refresh", f"/{SERVICE}/Verify")
    ]


@pytest.mark.parametrize("engine", ["grpcio", "envoy"])
def test_each_worker_exports_its_spans_and_the_last_when_it_stops(
    installation: Installation, collector: Collector, engine: str
) -> None:
    traced(installation, collector)
    with installation.serve("--workers", "2", "--engine", engine) as service:
        token = token_of(installation, service)

        def instances() -> set[Any]:
            with service.client() as client:
                client.verify(token, any_audience=True)
            return {span.resource["service.instance.id"] for span in collector.spans}

        until(lambda: len(instances()) == 2)
        with service.client() as client:
            client.verify(token, any_audience=True)
        before = len(collector.named(f"{SERVICE}/Verify"))
        assert service.terminate() == 0

    assert len(collector.named(f"{SERVICE}/Verify")) >= before
    assert len({span.resource["process.pid"] for span in collector.spans}) == 2
    assert {span.resource["service.name"] for span in collector.spans} == {"identity-service"}


def test_the_environment_names_the_service_and_the_headers_for_the_collector(
    installation: Installation, collector: Collector
) -> None:
    environment = {
        "OTEL_SERVICE_NAME": "id-eu",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        "OTEL_EXPORTER_OTLP_HEADERS": "api-key=k1",
    }
    with traced(installation, collector, **environment).serve() as service:
        refuse(service.target)
        (span,) = collector.await_named(f"{SERVICE}/Refresh")

    assert span.resource["service.name"] == "id-eu"
    assert span.resource["deployment.environment.name"] == "test"
    assert collector.metadata[0]["api-key"] == "k1"


def test_a_collector_with_tls_is_trusted_by_the_authority_in_the_environment(
    installation: Installation, tmp_path: Path
) -> None:
    certifier = Certifier(tmp_path / "tls")
    with collecting(certifier.server()) as collector:
        url = f"https://{collector.address}"
        certificate = {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(certifier.file)}
        environment = {"IDENTITY_TRACES_ENDPOINT": url} | certificate
        with traced(installation, collector, **environment).serve() as service:
            refuse(service.target)
            collector.await_named(f"{SERVICE}/Refresh")


@pytest.mark.parametrize("engine", ["grpcio", "envoy"])
def test_every_log_line_of_a_recorded_call_has_the_trace_id_of_its_span(
    installation: Installation, collector: Collector, engine: str
) -> None:
    with traced(installation, collector).serve("--engine", engine) as service:
        refuse(service.target)
        (span,) = collector.await_named(f"{SERVICE}/Refresh")
        refuse(service.target, PARENT)
        until(lambda: len(traces_in_log(installation)) == 4)

    assert traces_in_log(installation) == [span.trace_id, span.trace_id, TRACE, TRACE]


@pytest.mark.parametrize("engine", ["grpcio", "envoy"])
def test_every_log_line_of_a_call_has_the_trace_id_of_its_client_while_traces_are_off(
    installation: Installation, engine: str
) -> None:
    if engine == "grpcio":  # Envoy's own package needs the API
        installation.program = ("-c", WITHOUT_EXTRA)
    installation.environment["IDENTITY_REQUIRE_CALLER_AUTH"] = "true"
    with installation.serve("--engine", engine) as service:
        for call in (refuse, refuse_caller):
            call(service.target, PARENT)
            call(service.target)
        until(lambda: len(traces_in_log(installation)) == 8)

    assert traces_in_log(installation) == [TRACE, TRACE, None, None] * 2


@pytest.mark.parametrize("words", ["serve", "serve --workers 2", "config check"])
def test_a_service_that_lacks_the_extra_does_not_start_and_says_what_to_install(
    installation: Installation, collector: Collector, words: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRA, *words.split()],
        cwd=installation.folder,
        env=traced(installation, collector).environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert (done.returncode, done.stderr) == (
        1,
        "identity: traces_endpoint: OpenTelemetry is not installed; pip install 'identity-service[otel]'\n",
    )
