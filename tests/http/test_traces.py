"""The traces of HTTP requests, on both engines."""

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from tests.http.conftest import StartSite
from tests.http.site import Site
from tests.leaks import secrets_in
from tests.otlp import Collector, collecting
from tests.rpc.world import API

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture(autouse=True)
def collector(request: pytest.FixtureRequest) -> Iterator[Collector]:
    """An OpenTelemetry collector to which the service of the test exports its traces."""
    with collecting() as collector:
        request.applymarker(pytest.mark.settings(traces_endpoint=collector.endpoint))
        yield collector


def form(site: Site) -> str:
    credential = site.world.new_client().credential.client_secret
    fields = {"client_id": credential.client_id, "client_secret": credential.client_secret}
    return urlencode({"grant_type": "client_credentials", "audience": API} | fields)


def test_a_trace_leads_from_the_client_through_the_request_to_the_signature(
    site: Site, collector: Collector
) -> None:
    assert site.post("/oauth2/token", form(site), traceparent=PARENT).status == 200

    (request,) = collector.await_named("POST /oauth2/token")
    assert (request.trace_id, request.parent, request.kind, request.failed) == (TRACE, SPAN, "SERVER", False)
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/oauth2/token",
        "url.path": "/oauth2/token",
        "url.scheme": "http",
        "http.response.status_code": 200,
    }
    (signature,) = collector.named("sign")
    assert (signature.trace_id, signature.parent) == (TRACE, request.span_id)


def test_a_request_without_a_parent_begins_a_trace(site: Site, collector: Collector) -> None:
    site.get("/.well-known/jwks.json")

    (request,) = collector.await_named("GET /.well-known/jwks.json")
    assert request.parent == ""


def test_a_refused_request_is_no_failure_of_the_service(site: Site, collector: Collector) -> None:
    assert site.post("/oauth2/token", "grant_type=invented").status == 400

    (request,) = collector.await_named("POST /oauth2/token")
    assert (request.attributes["http.response.status_code"], request.failed) == (400, False)


def test_a_path_that_a_client_invents_is_not_exported(site: Site, collector: Collector) -> None:
    site.get("/a/path/with-a-token?token=abc")

    (request,) = collector.await_named("GET")
    assert {"http.route", "url.path"}.isdisjoint(request.attributes)
    assert b"token" not in collector.bytes.lower()


def test_a_method_that_a_client_invents_is_not_exported(start: StartSite, collector: Collector) -> None:
    site = start(traces_endpoint=collector.endpoint)
    site.request("INVENTED", "/oauth2/token")

    (request,) = collector.await_named("HTTP /oauth2/token")
    assert request.attributes["http.request.method"] == "_OTHER"
    assert b"INVENTED" not in collector.bytes


def test_probes_are_not_traced(site: Site, collector: Collector) -> None:
    site.get("/livez", traceparent=PARENT)
    site.get("/readyz", traceparent=PARENT)
    site.get("/.well-known/jwks.json")

    collector.await_named("GET /.well-known/jwks.json")
    assert len(collector.spans) == 1


def test_no_credential_is_exported(site: Site, collector: Collector) -> None:
    sent = form(site)
    token = site.post("/oauth2/token", sent, traceparent=PARENT).json["access_token"]
    site.post("/oauth2/revoke", f"{sent}&token={token}")
    site.post("/oauth2/introspect", f"{sent}&token={token}", authorization=f"Bearer {token}")
    collector.await_named("POST /oauth2/introspect")
    site.world.service.stop()

    assert secrets_in(collector.bytes.decode("latin-1")) == []
    assert not [part for part in token.split(".") if part.encode() in collector.bytes]
