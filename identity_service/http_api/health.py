"""The probes of an orchestrator: whether the process lives, and whether it serves."""

from collections.abc import Callable

from identity_service.http_api.messages import HttpRequest, HttpResponse

_TEXT = ("Content-Type", "text/plain; charset=utf-8")


class HealthEndpoints:
    """The endpoints of probes, which answer from memory."""

    def __init__(self, is_serving: Callable[[], bool]) -> None:
        """Create the endpoints; `is_serving` returns whether grpc.health.v1 reports SERVING."""
        self._is_serving = is_serving

    def live(self, _request: HttpRequest) -> HttpResponse:
        """Return 200: an answer means that the process needs no restart, even while its store is away."""
        return HttpResponse(status=200, headers=(_TEXT,), body=b"alive\n")

    def ready(self, _request: HttpRequest) -> HttpResponse:
        """Return 200 if grpc.health.v1 reports SERVING, else 503."""
        if self._is_serving():
            return HttpResponse(status=200, headers=(_TEXT,), body=b"ready\n")
        return HttpResponse(status=503, headers=(_TEXT, ("Retry-After", "1")), body=b"not ready\n")
