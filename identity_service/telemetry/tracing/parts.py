"""The parts of a service that are traced if traces are on."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from identity_service.domain.ports import KeyVault, PasswordHasher
from identity_service.grpc_api.engine import Engine
from identity_service.telemetry.measured_store import Wrap

if TYPE_CHECKING:
    from identity_service.transport.asgi import AsgiApp


class Tracing:
    """Tracing that is off: every part stays as it is. Its subclass wraps the parts."""

    def engine(self, engine: Engine) -> Engine:
        """Return the engine with a span around each call."""
        return engine

    def http(self, app: "AsgiApp", routes: Collection[str]) -> "AsgiApp":  # noqa: ARG002
        """Return the HTTP application, which has these paths, with a span around each request."""
        return app

    def wrap_operation(self) -> Wrap | None:
        """Return the function that puts a span around a method of a store; None = there are no spans."""
        return None

    def vault(self, vault: KeyVault) -> KeyVault:
        """Return the vault; its keys sign with a span around it."""
        return vault

    def hasher(self, hasher: PasswordHasher) -> PasswordHasher:
        """Return the hasher with a span around each hash."""
        return hasher

    def start(self) -> None:
        """Start to export. Raises RuntimeError if the system gives no thread."""

    def close(self) -> None:
        """Export what has been recorded, for half a second, and stop."""
