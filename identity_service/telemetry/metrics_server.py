"""The HTTP server of `/metrics`: it bounds what clients hold open, since each connection takes a thread.

The server of prometheus_client bounds neither their number nor the time for which they send nothing.
"""

import socket
import threading
import time
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from identity_service.process import thread_limit
from identity_service.process.addresses import cannot_listen

_MAX_CONNECTIONS: Final = 16
"""Connections at once; further ones are closed at once."""
_TIMEOUT: Final = 5.0
"""Seconds in which a client must send or read something."""
_LONGEST: Final = 10.0
"""Seconds after which a connection is closed, however often its client sends or reads something."""


class _Handler(WSGIRequestHandler):
    """Answers one connection, without a line in the log."""

    timeout = _TIMEOUT

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class MetricsServer(ThreadingMixIn, WSGIServer):
    """A server with a thread for each connection."""

    daemon_threads = True

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        """Listen on an address; `start` begins to answer. Raises OSError."""
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, _, _, _, address = found[0]
        super().__init__((str(address[0]), port), _Handler)
        self.set_app(make_wsgi_app(registry))
        self._places = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        self._since: dict[Any, float] = {}
        """The connections, and when each was accepted, by `time.monotonic`."""
        self._thread = threading.Thread(target=self.serve_forever, name="identity-metrics", daemon=True)

    @property
    def port(self) -> int:
        """Return the port on which it listens."""
        return self.server_port

    def start(self) -> None:
        """Start to answer. Raises ConfigurationError if the system gives no thread."""
        with thread_limit.named():
            self._thread.start()

    def close(self) -> None:
        """Stop to listen."""
        self.shutdown()
        self.server_close()
        self._thread.join()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread, or close it if there are too many."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._since[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system gives no thread
            self._release(request)
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._release(request)

    def _release(self, request: Any) -> None:
        del self._since[request]
        self._places.release()

    def service_actions(self) -> None:
        """End the connections that are too old; `serve_forever` calls this twice a second."""
        now = time.monotonic()
        for request, since in tuple(self._since.items()):
            if now - since > _LONGEST:
                with suppress(OSError):  # its thread has just closed it
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: object) -> None:
        """Log nothing: the client has left, or was too slow."""


def start_server(listen: str, registry: CollectorRegistry) -> MetricsServer:
    """Serve the metrics of a registry at host:port; return the server.

    Raises ConfigurationError if the address cannot be bound.
    """
    host, _, port = listen.rpartition(":")
    try:
        server = MetricsServer(host.strip("[]"), int(port), registry)
    except OSError as error:
        raise cannot_listen(listen, "metrics_listen", error) from error
    server.start()
    return server
