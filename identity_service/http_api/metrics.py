"""`/metrics` of the HTTP API: for programs on the same machine alone."""

from collections.abc import Callable
from typing import Final

from identity_service.domain.urls import is_loopback_host
from identity_service.http_api.messages import HttpRequest, HttpResponse
from identity_service.http_api.refusals import refusal

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of Prometheus' text format."""
_OF_PROXIES: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""Headers that tell that a proxy has passed the request on."""


class MetricsEndpoint:
    """The endpoint of the metrics of this process, which exists only for requests from this machine."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        """Create the endpoint; `read` returns the metrics in Prometheus' text format."""
        self._read = read

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Return the metrics, or 404 if the request is not from this machine, or a proxy has passed it on."""
        if not _is_local(request):
            return refusal(404, "there is no such resource")
        return HttpResponse(status=200, headers=(("Content-Type", CONTENT_TYPE),), body=self._read())


def _is_local(request: HttpRequest) -> bool:
    hosts = request.headers.get("host", ())
    return (
        is_loopback_host(_host_of(request.origin.peer))
        # A browser that is misled by DNS rebinding sends the name of the web page, and most proxies send a
        # name of their own.
        and len(hosts) == 1
        and is_loopback_host(_host_of(hosts[0]))
        and not any(name in request.headers for name in _OF_PROXIES)
    )


def _host_of(address: str) -> str:
    """Return the host of host:port, or of a host alone, without brackets."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0]
