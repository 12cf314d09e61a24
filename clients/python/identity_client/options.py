"""The options of a client: deadline, retries, keepalive, TLS, and the caller's own token."""

import json
import re
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import grpc

from identity_client.backoff import LONGEST_PAUSE
from identity_client.errors import InvalidArgumentError
from identity_client.retry import TokenSource, may_repeat
from identity_client.tls import TlsOptions

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_BEARER: Final = "Bearer "

_REPEATABLE: Final = (
    *(f"Get{name}" for name in ("Client", "User", "TrustedIssuer")),
    *(f"List{name}" for name in ("Clients", "Users", "Sessions", "TrustedIssuers", "Keys", "AuditEvents")),
    "SetPassword",
    "RevokeSessions",
)
"""The methods of AdminService that are retried. A second attempt to create a client would find the one that
the first attempt created, and its secret would be lost."""

_SHORTEST_BACKOFF: Final = timedelta(milliseconds=10)
"""The shortest initial backoff. With 1 ms gRPC 1.85 loses every other retry, and the call waits for its
deadline."""

_CONNECT_TIMEOUT: Final = timedelta(seconds=5)
"""The time for one attempt to connect. It exceeds the longest pause: if many clients connect at the same
moment, the last of them is not served at once."""


_PING_TIMEOUT: Final = timedelta(seconds=20)
"""The time for the answer to a keepalive ping, after which the connection is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """The options of a client; the defaults suit a service in the same region."""

    timeout: timedelta = timedelta(seconds=5)
    """The deadline of each call, including its retries. Streams have none."""
    max_attempts: int = 4
    """The number of attempts at a call while the service is UNAVAILABLE or stops, at most 5; 1 = no retry."""
    initial_backoff: timedelta = timedelta(milliseconds=100)
    """The pause before the first retry, with jitter, at least 10 ms; it doubles with each retry, up to 2
    s."""
    keepalive: timedelta = timedelta(seconds=30)
    """The time between keepalive pings; the service permits 20 seconds or more. A connection on which a ping
    is not answered within 20 seconds is closed."""
    max_message_bytes: int = 16 * 2**20
    """The largest answer, in bytes; the default of the service, so that the answer to a full VerifyBatch
    fits."""
    bearer: str | Callable[[], str] | Callable[[], Awaitable[str]] | None = field(default=None, repr=False)
    """The caller's own access token, or a function that returns it for each call; None = none. Needed for
    AdminClient, for all revocations except of a token that the caller holds, and for verifying if the service
    has `require_caller_auth` or TLS. `AccessTokens` is a function that renews the token.
    The function of an asyncio client may return an awaitable, as `AsyncAccessTokens` does."""
    http_proxy: bool = False
    """True = connect through the proxy that the environment variable `http_proxy` or `https_proxy` names,
    unless `no_proxy` excludes the target. Off by default: such a proxy is meant for the Web, and would see
    all tokens of a connection without TLS."""
    tls: TlsOptions | None = None
    """The TLS options of the connection; None = no encryption, for a service on the same machine."""
    allow_plaintext: bool = False
    """True = permit a connection without TLS to another machine. Everything between the two machines can then
    read the secrets and tokens. A client whose connection is not permitted raises ValueError when it is
    made."""

    def channel_arguments(self, *, own_connection: bool = False) -> list[tuple[str, Any]]:
        """Return the arguments for `grpc.insecure_channel` or `grpc.secure_channel`.

        With `own_connection`, gRPC shares the connection with no other channel of this process.
        """
        return [
            *((("grpc.use_local_subchannel_pool", 1),) if own_connection else ()),
            *(self.tls.channel_arguments() if self.tls is not None else ()),
            ("grpc.service_config", json.dumps(self._service_config())),
            ("grpc.enable_retries", 1),
            ("grpc.enable_http_proxy", int(self.http_proxy)),
            # The default of gRPC is 1 s, and a call's retries are used up by then: a server that is being
            # replaced resets new connections for a moment, and accepts them afterwards. Without a maximum the
            # pause grows to two minutes: after an outage of 48 s the watchers came back 35 s late.
            ("grpc.initial_reconnect_backoff_ms", _milliseconds(self.initial_backoff)),
            ("grpc.max_reconnect_backoff_ms", _milliseconds(max(LONGEST_PAUSE, self.initial_backoff))),
            # Despite its name the time for one attempt to connect, including TLS; the default is 20 s.
            ("grpc.min_reconnect_backoff_ms", _milliseconds(_CONNECT_TIMEOUT)),
            ("grpc.keepalive_time_ms", _milliseconds(self.keepalive)),
            ("grpc.keepalive_permit_without_calls", 1),
            # Both: gRPC's core uses the second, which is a minute by default.
            ("grpc.keepalive_timeout_ms", _milliseconds(_PING_TIMEOUT)),
            ("grpc.http2.ping_timeout_ms", _milliseconds(_PING_TIMEOUT)),
            ("grpc.max_receive_message_length", self.max_message_bytes),
        ]

    def metadata(self, timeout: float | None = None) -> tuple[tuple[str, str], ...]:
        """Return the metadata of a call that has so many seconds; a source of tokens waits no longer.

        Raises InvalidArgumentError if the bearer is not a token, TypeError if it returns an awaitable.
        """
        token = self._token(timeout)
        if token is not None and not isinstance(token, str):
            if isinstance(token, Coroutine):
                token.close()  # or Python would warn that it was never awaited
            raise TypeError("bearer: a function that returns an awaitable is for the asyncio clients only")
        return _authorization(token)

    async def async_metadata(self, timeout: float | None = None) -> tuple[tuple[str, str], ...]:
        """Return the metadata of a call of an asyncio client. Raises InvalidArgumentError, see `metadata`."""
        token = self._token(timeout)
        return _authorization(token if token is None or isinstance(token, str) else await token)

    def may_repeat(self, metadata: tuple[tuple[str, str], ...], token_id_sha256: str) -> bool:
        """Return whether a refused call is worth a second attempt, see `retry.may_repeat`.

        Args:
            metadata: that of the call, as `metadata()` returned it.
            token_id_sha256: the hash in the error.
        """
        return bool(metadata) and may_repeat(self.bearer, metadata[0][1][len(_BEARER) :], token_id_sha256)

    def _token(self, timeout: float | None) -> str | Awaitable[str] | None:
        bearer: Any = self.bearer
        arguments = (timeout,) if isinstance(bearer, TokenSource) else ()
        found: str | Awaitable[str] | None = bearer(*arguments) if callable(bearer) else bearer
        return found

    def _service_config(self) -> dict[str, Any]:
        # Not for streams: a watcher resumes at the last revision that it received.
        names = [
            {"service": "identityapi.v1.IdentityService"},
            {"service": "identityapi.v1.TrustService", "method": "GetKeys"},
            *({"service": "identityapi.v1.AdminService", "method": method} for method in _REPEATABLE),
        ]
        method: dict[str, Any] = {"name": names}
        if self.max_attempts > 1:
            # All of these methods are idempotent.
            method["retryPolicy"] = {
                "maxAttempts": min(self.max_attempts, 5),
                "initialBackoff": f"{max(self.initial_backoff, _SHORTEST_BACKOFF).total_seconds():.3f}s",
                "maxBackoff": f"{LONGEST_PAUSE.total_seconds():.3f}s",
                "backoffMultiplier": 2,
                # A gRPC server that is stopping answers CANCELLED to new calls, without processing them.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            }
        return {"methodConfig": [method]}


def _authorization(token: str | None) -> tuple[tuple[str, str], ...]:
    if not token:
        return ()
    if not _TOKEN.fullmatch(token):
        # gRPC would report INTERNAL; the usual cause is a token that was read from a file with its newline.
        description = "must be a token of visible ASCII characters, without spaces or a line break"
        raise InvalidArgumentError(
            f"bearer: {description}",
            code=grpc.StatusCode.INVALID_ARGUMENT,
            violations={"bearer": description},
        )
    return (("authorization", _BEARER + token),)


def _milliseconds(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)
