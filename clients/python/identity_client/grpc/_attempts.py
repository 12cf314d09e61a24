"""The credentials of a connection, and the metadata of a call, for channels of both kinds."""

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import grpc

from identity_client.errors import IdentityError
from identity_client.retry import may_repeat, refused_token
from identity_client.tls import TlsOptions
from identity_client.transport import is_loopback, tls_by_default

AUTHORIZATION: Final = "authorization"


def channel_credentials(
    target: str, tls: TlsOptions | None, *, allow_plaintext: bool
) -> grpc.ChannelCredentials | None:
    """Return the credentials of a connection, see `tls_by_default`; None = plaintext to another machine."""
    options = tls_by_default(target, tls, allow_plaintext=allow_plaintext)
    if options is not None:
        return options.credentials()
    if not is_loopback(target):
        return None
    # Refuses to connect if the address is not on this machine after all.
    kind = "UDS" if target.startswith("unix") else "LOCAL_TCP"
    return grpc.local_channel_credentials(grpc.LocalConnectionType[kind])


def arguments(
    target: str, tls: TlsOptions | None, options: Sequence[tuple[str, Any]], *, allow_plaintext: bool
) -> list[tuple[str, Any]]:
    """Return the channel arguments: those of TLS, and then the caller's."""
    used = tls_by_default(target, tls, allow_plaintext=allow_plaintext)
    # A proxy of the environment would see the tokens of a connection without TLS.
    own: Sequence[tuple[str, Any]] = (
        used.channel_arguments() if used is not None else (("grpc.enable_http_proxy", 0),)
    )
    return [*own, *options]


def is_authorized(metadata: Iterable[Any] | None) -> bool:
    """Return whether the call carries a token of its own already, which then stays."""
    return any(key.lower() == AUTHORIZATION for key, _ in metadata or ())


class Attempt:
    """The time of one call, which its waiting for a token and a second attempt share."""

    def __init__(self, timeout: float | None) -> None:
        """Begin; `timeout` is the deadline of the call in seconds, None = it has none."""
        self._end = None if timeout is None else time.monotonic() + timeout

    def remaining(self) -> float | None:
        """Return the seconds that are left, at least 0; None = the call has no deadline."""
        return None if self._end is None else max(self._end - time.monotonic(), 0.0)


def should_repeat(source: object, token: str, outcome: Any) -> bool:
    """Return whether a call that has ended is worth a second attempt; see `retry.may_repeat`.

    Args:
        source: where the token comes from.
        token: the token that the call carried.
        outcome: the call or its error, which has ended.
    """
    refused = outcome.code() is grpc.StatusCode.UNAUTHENTICATED
    return refused and may_repeat(source, token, refused_token(outcome))


def status_without_token(error: IdentityError | OSError) -> tuple[grpc.StatusCode, str]:
    """Return the status of a call that was not sent because there is no token for it."""
    code = error.code if isinstance(error, IdentityError) else grpc.StatusCode.UNAVAILABLE
    return code, f"no access token for this call: {error}"
