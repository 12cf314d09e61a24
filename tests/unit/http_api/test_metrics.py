"""`/metrics` on the HTTP listener is served to programs on the same machine only."""

import pytest

from identity_service.domain.origin import Origin
from identity_service.http_api.messages import HttpRequest
from identity_service.http_api.metrics import MetricsEndpoint


def status(peer: str = "127.0.0.1:5000", host: str | None = "127.0.0.1:8080", **headers: str) -> int:
    """Return the status of the response to a request from this peer for this host."""
    sent = {name.replace("_", "-"): (value,) for name, value in headers.items()}
    if host is not None:
        sent["host"] = (host,)
    request = HttpRequest(
        method="GET",
        path="/metrics",
        query=b"",
        headers=sent,
        body=b"",
        origin=Origin(peer=peer, request_id="r"),
    )
    return MetricsEndpoint(lambda: b"up 1\n")(request).status


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:8080", "127.0.0.1"])
def test_a_program_on_this_machine_gets_the_metrics(host: str) -> None:
    assert status(host=host) == 200
    assert status("[::1]:5000", host) == 200


@pytest.mark.parametrize("peer", ["192.0.2.1:5000", "[2001:db8::1]:5000", ""])
def test_a_client_on_another_machine_finds_nothing(peer: str) -> None:
    assert status(peer) == 404


@pytest.mark.parametrize("host", ["id.example", "localhost.example:8080", "192.0.2.1", "", None])
def test_a_request_for_another_host_finds_nothing(host: str | None) -> None:
    """A web page sends such a request if its name resolves to this address, and so may a proxy."""
    assert status(host=host) == 404


@pytest.mark.parametrize("header", ["forwarded", "x_forwarded_for", "x_real_ip", "via", "x_forwarded_host"])
def test_a_request_that_a_proxy_has_passed_on_finds_nothing(header: str) -> None:
    assert status(**{header: "127.0.0.1"}) == 404
