"""How a client behaves: deadline, retries, keepalive, and the caller's own token."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """Options of an IdentityClient; the defaults suit a service in the same region."""

    timeout: timedelta = timedelta(seconds=5)
    """The deadline of each call, its retries included."""
    max_attempts: int = 4
    """How often a call is tried while the service is UNAVAILABLE, at most 5; 1 = no retry."""
    initial_backoff: timedelta = timedelta(milliseconds=100)
    """Before the first retry; doubles with each, with jitter, up to two seconds."""
    keepalive: timedelta = timedelta(seconds=30)
    """Between pings on an idle connection; the service permits no less than 20 seconds."""
    bearer: str | Callable[[], str] | None = field(default=None, repr=False)
    """The caller's own access token, or what gives it for each call; needed to revoke more than a
    token that one holds, and to verify where the service asks for it."""

    def channel_arguments(self) -> list[tuple[str, Any]]:
        """The options of a gRPC channel."""
        milliseconds = int(self.keepalive.total_seconds() * 1000)
        return [
            ("grpc.service_config", json.dumps(self._service_config())),
            ("grpc.enable_retries", 1),
            ("grpc.keepalive_time_ms", milliseconds),
            ("grpc.keepalive_permit_without_calls", 1),
        ]

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes along with each call."""
        token = self.bearer() if callable(self.bearer) else self.bearer
        return (("authorization", f"Bearer {token}"),) if token else ()

    def _service_config(self) -> dict[str, Any]:
        method: dict[str, Any] = {"name": [{"service": "identityapi.v1.IdentityService"}]}
        if self.max_attempts > 1:
            # Every call of the service may be repeated: that is how they are made.
            method["retryPolicy"] = {
                "maxAttempts": min(self.max_attempts, 5),
                "initialBackoff": f"{self.initial_backoff.total_seconds():.3f}s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            }
        return {"methodConfig": [method]}
