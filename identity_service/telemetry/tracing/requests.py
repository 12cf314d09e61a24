"""Spans of HTTP requests, with the names of OpenTelemetry's conventions for HTTP."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from opentelemetry.trace import Span

from identity_service.http_api import paths
from identity_service.http_api.app import KNOWN_METHODS
from identity_service.telemetry.call_ids import PARENT, STATE
from identity_service.telemetry.tracing.spans import Spans, current, fail
from identity_service.transport.asgi import AsgiApp

_UNTRACED: Final = frozenset((paths.LIVE, paths.READY, paths.METRICS))
"""The paths whose requests are not traced: probes send them, not the clients of an application."""
_HEADERS: Final = frozenset((PARENT.encode(), STATE.encode()))
_FIRST_FAILURE: Final = 500
_NO_ANSWER: Final = "no_answer"
"""The kind of error of a request that got no answer."""


class TracedHttpApp:
    """An ASGI application that puts a span around each request and passes it to another application."""

    def __init__(self, app: AsgiApp, spans: Spans, routes: Collection[str]) -> None:
        """Trace requests; `routes` are the paths that the application has."""
        self._app = app
        self._spans = spans
        self._routes = frozenset(routes)

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Serve one request."""
        span = self._begin(scope) if scope["path"] not in _UNTRACED else None
        if span is None:
            await self._app(scope, receive, send)
            return
        status = 0

        async def watched(event: Any) -> None:
            nonlocal status
            if event["type"] == "http.response.start":
                status = event["status"]
            await send(event)

        try:
            with current(span):
                await self._app(scope, receive, watched)
        finally:
            _end(span, status)

    def _begin(self, scope: Mapping[str, Any]) -> Span | None:
        """Return the span of a request, without what its client invents: any path may hold a token."""
        method, path = scope["method"], scope["path"]
        is_known = method in KNOWN_METHODS
        name = method if is_known else "HTTP"
        attributes = {
            "http.request.method": method if is_known else "_OTHER",
            "url.scheme": scope.get("scheme", "http"),
        }
        if path in self._routes:
            name = f"{name} {path}"
            attributes |= {"http.route": path, "url.path": path}
        metadata = [
            (key.decode(), value.decode("latin-1")) for key, value in scope["headers"] if key in _HEADERS
        ]
        return self._spans.begin(name, metadata, attributes)


def _end(span: Span, status: int) -> None:
    """End the span of a request; the status 0 stands for a request without an answer."""
    if status:
        span.set_attribute("http.response.status_code", status)
    if not status or status >= _FIRST_FAILURE:
        fail(span, str(status) if status else _NO_ANSWER)
    span.end()
