"""How a client behaves: deadline, retries, keepalive, encryption, and the caller's own token."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import grpc

from identity_client.backoff import LONGEST_PAUSE
from identity_client.errors import InvalidArgumentError
from identity_client.tls import TlsOptions

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")

_REPEATABLE: Final = (
    *(f"Get{name}" for name in ("Client", "User", "TrustedIssuer")),
    *(f"List{name}" for name in ("Clients", "Users", "Sessions", "TrustedIssuers", "Keys", "AuditEvents")),
    "SetPassword",
    "RevokeSessions",
)
"""Of administration: a second attempt to create finds what the first one made, and its secret is lost."""

_SHORTEST_BACKOFF: Final = timedelta(milliseconds=10)
"""With one millisecond gRPC 1.85 loses every other retry, and the call waits for its deadline."""

_CONNECT_TIMEOUT: Final = timedelta(seconds=5)
"""More than the longest pause: of many clients that come at once the last is not served at once."""


_PING_TIMEOUT: Final = timedelta(seconds=20)
"""For the answer to a ping, after which the connection is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """Options of a client; the defaults suit a service in the same region."""

    timeout: timedelta = timedelta(seconds=5)
    """The deadline of each call, its retries included."""
    max_attempts: int = 4
    """How often a call is tried while the service is UNAVAILABLE or stops, at most 5; 1 = no retry."""
    initial_backoff: timedelta = timedelta(milliseconds=100)
    """Before the first retry, at least 10 ms; doubles with each, with jitter, up to two seconds."""
    keepalive: timedelta = timedelta(seconds=30)
    """Between pings on an idle connection; the service permits no less than 20 seconds. Without an answer for
    20 seconds the connection is given up."""
    max_message_bytes: int = 16 * 2**20
    """Of one answer; as much as the service allows by default, so that a full VerifyBatch fits."""
    bearer: str | Callable[[], str] | None = field(default=None, repr=False)
    """The caller's own access token, or what gives it for each call; needed to revoke more than a
    token that one holds, and to verify where the service asks for it. `AccessTokens` renews one."""
    http_proxy: bool = False
    """Whether to connect through the proxy that `http_proxy` or `https_proxy` of the environment names,
    unless `no_proxy` excepts the target. Off by default: such a proxy is for the Web, and would see every
    token of a connection without TLS."""
    tls: TlsOptions | None = None
    """How the connection is encrypted; None = not at all, for a service on the same machine."""

    def channel_arguments(self) -> list[tuple[str, Any]]:
        """The options of a gRPC channel."""
        return [
            *(self.tls.channel_arguments() if self.tls is not None else ()),
            ("grpc.service_config", json.dumps(self._service_config())),
            ("grpc.enable_retries", 1),
            ("grpc.enable_http_proxy", int(self.http_proxy)),
            # gRPC waits a second, and a call's retries are used up by then: a server that is being replaced
            # resets who connects in that moment, and takes who comes back. Unbounded it would wait up to two
            # minutes: a service that was away for 48 s was found by its watchers 35 s after it was back.
            ("grpc.initial_reconnect_backoff_ms", _milliseconds(self.initial_backoff)),
            ("grpc.max_reconnect_backoff_ms", _milliseconds(max(LONGEST_PAUSE, self.initial_backoff))),
            # Not a pause but the time for one attempt to connect, TLS included; 20 s by default.
            ("grpc.min_reconnect_backoff_ms", _milliseconds(_CONNECT_TIMEOUT)),
            ("grpc.keepalive_time_ms", _milliseconds(self.keepalive)),
            ("grpc.keepalive_permit_without_calls", 1),
            # Both: the core goes by the second, which is a minute if it is not set.
            ("grpc.keepalive_timeout_ms", _milliseconds(_PING_TIMEOUT)),
            ("grpc.http2.ping_timeout_ms", _milliseconds(_PING_TIMEOUT)),
            ("grpc.max_receive_message_length", self.max_message_bytes),
        ]

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes along with each call. Raises InvalidArgumentError for a bearer that is no token."""
        token = self.bearer() if callable(self.bearer) else self.bearer
        if not token:
            return ()
        if not _TOKEN.fullmatch(token):
            # gRPC would call it INTERNAL; most often it is a file that was read with its line break.
            description = "must be a token of visible ASCII characters, without spaces or a line break"
            raise InvalidArgumentError(
                f"bearer: {description}",
                code=grpc.StatusCode.INVALID_ARGUMENT,
                violations={"bearer": description},
            )
        return (("authorization", f"Bearer {token}"),)

    def _service_config(self) -> dict[str, Any]:
        # Not for streams: whoever watches resumes after what it was sent last.
        names = [
            {"service": "identityapi.v1.IdentityService"},
            {"service": "identityapi.v1.TrustService", "method": "GetKeys"},
            *({"service": "identityapi.v1.AdminService", "method": method} for method in _REPEATABLE),
        ]
        method: dict[str, Any] = {"name": names}
        if self.max_attempts > 1:
            # These calls may be repeated: that is how they are made.
            method["retryPolicy"] = {
                "maxAttempts": min(self.max_attempts, 5),
                "initialBackoff": f"{max(self.initial_backoff, _SHORTEST_BACKOFF).total_seconds():.3f}s",
                "maxBackoff": f"{LONGEST_PAUSE.total_seconds():.3f}s",
                "backoffMultiplier": 2,
                # A gRPC server that stops answers CANCELLED to what reaches it in that moment, unseen.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            }
        return {"methodConfig": [method]}


def _milliseconds(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)
