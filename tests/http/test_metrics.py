"""The path `/metrics` on the listener of `http_listen`."""

import pytest

from tests.http.conftest import StartSite
from tests.http.site import Site


def test_the_metrics_are_served_on_loopback(site: Site) -> None:
    site.request("GET", "/livez")
    found = site.request("GET", "/metrics")
    assert (found.status, found.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b'http_requests_total{method="GET",route="/livez",status="200"} 1.0' in found.body
    assert b"identity_fresh 1.0" in found.body


def test_they_are_not_served_for_another_host(site: Site) -> None:
    assert site.request("GET", "/metrics", host="id.example").status == 404


@pytest.mark.parametrize("changes", [{"http_listen": "0.0.0.0:0", "insecure": True}, {"workers": 2}])
def test_they_are_not_served_beyond_loopback_or_by_a_worker(
    start: StartSite, changes: dict[str, object]
) -> None:
    assert start(**changes).request("GET", "/metrics").status == 404
