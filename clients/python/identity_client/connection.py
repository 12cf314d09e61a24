"""The connection to the service: one channel, the deadline and metadata of each call, and its errors."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import grpc
from google.protobuf.message import Message

from identity_client.closing import Closing
from identity_client.errors import to_error
from identity_client.options import ClientOptions
from identity_client.retry import refused_token
from identity_client.transport import check_plaintext

R = TypeVar("R", bound=Message)


class ServiceClient(Closing):
    """The base class of the clients. Any thread may call any method.

    Every method raises an IdentityError if the call fails. While the service is UNAVAILABLE, calls that are
    safe to repeat are tried again until the deadline: all calls but those that create, change or delete a
    record. A call is repeated once with another token if the service refuses that of `options.bearer`, and
    this is a source of tokens such as AccessTokens. A client may be used as a context manager, which closes
    it.
    """

    _own_connection: ClassVar[bool] = False
    """True if the client has a connection of its own, shared with no other client of this process."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        options: ClientOptions | None = None,
        channel: grpc.Channel | None = None,
    ) -> None:
        """Create a client; it connects with the first call.

        Args:
            target: host:port of the service. A service on another machine needs `options.tls`.
            options: deadline, retries, TLS, the caller's own token; None = the defaults.
            channel: a channel to use instead of a new one to `target`; the caller closes it. Make it with
                `options.channel_arguments()`, or it neither retries calls nor accepts large messages.

        Raises ValueError if there is no TLS to another machine, and `options.allow_plaintext` does not permit
        that; OSError if a file of `options.tls` cannot be read.
        """
        self._target = target
        self._options = options or ClientOptions()
        self._own = channel is None
        self._channel = channel or self._open_channel()

    def close(self) -> None:
        """Close the channel, unless the caller passed it in."""
        if self._own:
            self._channel.close()

    def _open_channel(self) -> grpc.Channel:
        return open_channel(self._target, self._options, own_connection=self._own_connection)

    def _call(self, method: Callable[..., R], request: Message) -> R:
        """Call the method; once more if the service refuses the caller's token, and `bearer` has another."""
        seconds = self._options.timeout.total_seconds()
        end = time.monotonic() + seconds
        metadata = self._options.metadata(seconds)
        with translated(late=f"the service did not answer within {seconds:g} s"):
            try:
                return method(request, timeout=seconds_until(end), metadata=metadata)
            except grpc.RpcError as error:
                if not self._options.may_repeat(metadata, refused_token(error)):
                    raise
            metadata = self._options.metadata(seconds_until(end))
            return method(request, timeout=seconds_until(end), metadata=metadata)

    @contextmanager
    def _stream(self, method: Callable[..., Any], request: Message) -> Iterator[Any]:
        """Open a stream without a deadline, and cancel it at the end of the block.

        If the service refuses the caller's token, and `bearer` has another, the next stream gets that.
        """
        metadata = self._options.metadata()
        stream = method(request, metadata=metadata)
        try:
            with translated():
                try:
                    yield stream
                except grpc.RpcError as error:
                    self._options.may_repeat(metadata, refused_token(error))
                    raise
        finally:
            stream.cancel()


def open_channel(target: str, options: ClientOptions, *, own_connection: bool = False) -> grpc.Channel:
    """Open a channel with these options.

    Args:
        target: host:port of the service.
        options: TLS, retries, keepalive and message size.
        own_connection: whether the channel has a connection of its own; otherwise gRPC may share one between
            the channels of this process to the same target.

    Raises ValueError if there is no TLS to another machine, and `options.allow_plaintext` does not permit
    that; OSError if a file of `options.tls` cannot be read.
    """
    arguments = options.channel_arguments(own_connection=own_connection)
    if options.tls is None:
        check_plaintext(target, allow_plaintext=options.allow_plaintext)
        return grpc.insecure_channel(target, options=arguments)
    return grpc.secure_channel(target, options.tls.credentials(), options=arguments)


def seconds_until(end: float) -> float:
    """Return the seconds until a time of `time.monotonic()`; 0 if it has passed."""
    return max(end - time.monotonic(), 0.0)


@contextmanager
def translated(late: str = "") -> Iterator[None]:
    """Convert a `grpc.RpcError` in the block into an IdentityError.

    Its message is `late`, if given, for a call whose deadline has passed: gRPC says only "Deadline Exceeded".
    """
    try:
        yield
    except grpc.RpcError as error:
        # `from None`: the error of gRPC may show the call's metadata, which hold the caller's token.
        raise to_error(error, late=late) from None
