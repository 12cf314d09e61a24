"""The way to the service: one channel, the deadline and metadata of each call, and its errors."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

import grpc
from google.protobuf.message import Message

from identity_client.errors import to_error
from identity_client.options import ClientOptions

R = TypeVar("R", bound=Message)


class Connected:
    """What the clients have in common. Any thread may call any method.

    Every method raises an IdentityError when the call fails. UNAVAILABLE is tried again within the
    deadline for the calls that are safe to repeat: all but those that create, change or delete a record.
    """

    _own_connection: ClassVar[bool] = False
    """Whether its connection is shared with no other client of this process."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        options: ClientOptions | None = None,
        channel: grpc.Channel | None = None,
    ) -> None:
        """Connects with the first call.

        Args:
            target: host:port of the service. Beyond this machine set `options.tls`.
            options: deadline, retries, encryption, the caller's own token.
            channel: to use instead of one to `target`; it stays the caller's to close. Make it with
                `options.channel_arguments()`, else it retries nothing and takes smaller messages.
        """
        self._target = target
        self._options = options or ClientOptions()
        self._own = channel is None
        self._channel = channel or self._open_channel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel, if this client made it."""
        if self._own:
            self._channel.close()

    def _open_channel(self) -> grpc.Channel:
        return open_channel(self._target, self._options, own_connection=self._own_connection)

    def _call(self, method: Callable[..., R], request: Message) -> R:
        with translated():
            return method(
                request,
                timeout=self._options.timeout.total_seconds(),
                metadata=self._options.metadata(),
            )

    def _open(self, method: Callable[..., Any], request: Message) -> Any:
        """A stream, which has no deadline."""
        return method(request, metadata=self._options.metadata())


def open_channel(target: str, options: ClientOptions, *, own_connection: bool = False) -> grpc.Channel:
    """A channel as the options say. Raises OSError: a file of `options.tls` cannot be read.

    Args:
        own_connection: gRPC lets channels of one process to one target share a connection, unless this is on.
    """
    arguments = options.channel_arguments()
    if own_connection:
        arguments.append(("grpc.use_local_subchannel_pool", 1))
    if options.tls is None:
        return grpc.insecure_channel(target, options=arguments)
    return grpc.secure_channel(target, options.tls.credentials(), options=arguments)


@contextmanager
def translated() -> Iterator[None]:
    """Errors of gRPC as those of this client."""
    try:
        yield
    except grpc.RpcError as error:
        # `from None`: the library's error may show metadata, and with it the caller's token.
        raise to_error(error) from None
