"""A channel whose calls carry an access token, for synchronous stubs."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import grpc

from identity_client.errors import IdentityError
from identity_client.grpc._attempts import (
    AUTHORIZATION,
    Attempt,
    arguments,
    channel_credentials,
    is_authorized,
    should_repeat,
    status_without_token,
)
from identity_client.retry import Tokens
from identity_client.tls import TlsOptions

Metadata = Sequence[tuple[str, str | bytes]]


def secure_channel(
    target: str,
    tokens: Tokens,
    *,
    tls: TlsOptions | None = None,
    allow_plaintext: bool = False,
    options: Sequence[tuple[str, Any]] = (),
) -> grpc.Channel:
    """Open a channel whose calls carry an access token (`authorization: Bearer …`), for any stub.

    A call waits for a token no longer than its own deadline. A unary call is repeated once with another token
    if the service refuses the token of the first attempt, and says so by naming it; see
    `identity_client.retry`. A call that was started with `future`, and a stream, are not repeated, but the
    next call has another token. A call whose metadata have `authorization` already is left alone.

    Args:
        target: host:port of the service to call.
        tokens: the source of tokens, such as AccessTokens; closing the channel does not close it.
        tls: the options of TLS. None = none for an address of this machine (127.0.0.0/8, ::1, localhost, a
            Unix
            socket), and TLS with gRPC's root certificates for any other.
        allow_plaintext: whether to do without TLS to another machine. Everything between the two machines can
            read
            and use the tokens.
        options: further channel arguments of gRPC.

    A call for which there is no token ends with NoTokenError, a `grpc.RpcError`. Raises OSError if a file of
    `tls` cannot be read.
    """
    credentials = channel_credentials(target, tls, allow_plaintext=allow_plaintext)
    given = arguments(target, tls, options, allow_plaintext=allow_plaintext)
    channel = (
        grpc.insecure_channel(target, given)
        if credentials is None
        else grpc.secure_channel(target, credentials, given)
    )
    return grpc.intercept_channel(channel, BearerInterceptor(tokens))


class NoTokenError(grpc.RpcError):
    """There is no access token for a call, which was therefore not sent. The cause says why.

    Its code is that of the failed renewal: UNAVAILABLE or DEADLINE_EXCEEDED if the service that issues tokens
    cannot be reached, UNAUTHENTICATED if it refuses the credential.
    """

    def __init__(self, error: IdentityError | OSError) -> None:
        self._code, self._details = status_without_token(error)
        super().__init__(self._details)
        self.__cause__ = error

    def code(self) -> grpc.StatusCode:
        """Return the status."""
        return self._code

    def details(self) -> str:
        """Return the reason."""
        return self._details

    def initial_metadata(self) -> Any:
        """Return no metadata, since there is no answer."""
        return ()

    trailing_metadata = initial_metadata

    # Interceptors that wrap this one get the error in place of a call, and use it as a call that has ended.

    def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002
        """Raise this error."""
        raise self

    def exception(self, timeout: float | None = None) -> Exception:  # noqa: ARG002
        """Return this error."""
        return self

    def traceback(self, timeout: float | None = None) -> Any:  # noqa: ARG002
        """Return the traceback of this error."""
        return self.__traceback__

    def done(self) -> bool:
        """Return True."""
        return True

    def cancelled(self) -> bool:
        """Return False."""
        return False

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call the function."""
        fn(self)


class BearerInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds the access token to all four kinds of calls.

    It runs in the thread of the call; call credentials (`grpc.AuthMetadataPlugin`) run in a thread of gRPC,
    without the context variables of the call, and learn nothing of its deadline or of its refusal.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Make the call; repeat it once if its token is refused."""
        if is_authorized(client_call_details.metadata):
            return continuation(client_call_details, request)
        attempt = Attempt(client_call_details.timeout)
        token = self._token(attempt)
        outcome = continuation(_authorized(client_call_details, token, attempt), request)
        if not outcome.done():  # started with `future`: to wait for it here would hold up its caller
            outcome.add_done_callback(lambda call: should_repeat(self._tokens, token, call))
            return outcome
        if not should_repeat(self._tokens, token, outcome):
            return outcome
        try:
            token = self._token(attempt)
        except NoTokenError:
            return outcome
        return continuation(_authorized(client_call_details, token, attempt), request)

    def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Make the call; renew its token if it is refused."""
        return self._once(continuation, client_call_details, request_iterator)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Make the call; renew its token if it is refused."""
        return self._once(continuation, client_call_details, request)

    def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Make the call; renew its token if it is refused."""
        return self._once(continuation, client_call_details, request_iterator)

    def _once(self, continuation: Any, details: Any, requests: Any) -> Any:
        """Make a call that cannot be repeated: its messages are gone. The next one has another token."""
        if is_authorized(details.metadata):
            return continuation(details, requests)
        attempt = Attempt(details.timeout)
        token = self._token(attempt)
        call = continuation(_authorized(details, token, attempt), requests)

        call.add_done_callback(lambda call: should_repeat(self._tokens, token, call))
        return call

    def _token(self, attempt: Attempt) -> str:
        try:
            return self._tokens(attempt.remaining())
        except (IdentityError, OSError) as error:
            raise NoTokenError(error) from error


class _Details(NamedTuple):
    """The details of a call, with its token. gRPC takes any object that has these attributes."""

    method: str
    timeout: float | None
    metadata: Metadata
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


def _authorized(details: Any, token: str, attempt: Attempt) -> Any:
    return _Details(
        method=details.method,
        timeout=attempt.remaining(),
        metadata=(*(details.metadata or ()), (AUTHORIZATION, f"Bearer {token}")),
        credentials=details.credentials,
        wait_for_ready=details.wait_for_ready,
        compression=details.compression,
    )
