"""The OpenTelemetry program in docs/integrations.md: its trace continues in the service, on both engines."""

import os
from pathlib import Path

import pytest

from tests.docs.recipes import sections
from tests.e2e.process import Installation
from tests.otlp import collecting
from tests.patience import until

PASSWORD = "correct horse battery staple"


@pytest.mark.parametrize("engine", ["grpcio", "envoy"])
def test_a_trace_leads_from_the_program_through_the_service_to_store_and_signature(
    tmp_path: Path, engine: str
) -> None:
    (program,) = sections("integrations.md")["OpenTelemetry"]
    installation = Installation(tmp_path, "sqlite:///identity.db", forked=True)
    installation.init()
    with collecting() as collector:
        installation.environment["IDENTITY_TRACES_ENDPOINT"] = collector.endpoint
        with installation.serve("--engine", engine) as service:
            service.create_user("ana", PASSWORD, scopes=["read"])
            environment = {"PASSWORD": PASSWORD, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
            places = {"127.0.0.1:4317": collector.address, "127.0.0.1:50051": service.target}
            program.run(tmp_path, environment, places)
            (first,) = collector.await_named("sign-in")
            until(lambda: any(span.parent == first.span_id for span in collector.spans))

        trace = {span.name: span for span in collector.spans if span.trace_id == first.trace_id}

    call, store, signature = (
        trace[name] for name in ("identityapi.v1.IdentityService/Issue", "sessions.create", "sign")
    )
    assert (first.resource["service.name"], first.parent) == ("shop", "")
    assert (call.resource["service.name"], call.parent) == ("identity-service", first.span_id)
    assert store.parent == signature.parent == call.span_id
    assert first.began <= call.began <= signature.began <= signature.ended <= call.ended <= first.ended
