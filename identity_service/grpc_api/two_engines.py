"""Two engines that serve the same methods, such as grpcio and the ASGI engine that serves gRPC-Web."""

import time

from identity_service.grpc_api.engine import Engine, Handler


class TwoEngines:
    """An engine whose port is that of the first of two; both serve the same handlers."""

    def __init__(self, first: Engine, second: Engine) -> None:
        self._first = first
        self._second = second

    def register(self, method: str, handler: Handler) -> None:
        """Serve a method with this handler on both engines."""
        self._first.register(method, handler)
        self._second.register(method, handler)

    def start(self) -> int:
        """Start both engines, and return the port of the first. Raises ConfigurationError."""
        self._second.start()
        return self._first.start()

    def stop(self, grace: float) -> bool:
        """Let calls finish on both engines; return whether all have finished within `grace` seconds."""
        end = time.monotonic() + grace
        done = self._first.stop(grace)
        return self._second.stop(max(0.0, end - time.monotonic())) and done
