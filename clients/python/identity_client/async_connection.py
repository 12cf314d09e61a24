"""The connection of the asyncio clients: one channel, the metadata of each call, and its errors."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from identity_client.closing import AsyncClosing
from identity_client.connection import seconds_until, translated
from identity_client.options import ClientOptions
from identity_client.retry import refused_token
from identity_client.transport import check_plaintext

R = TypeVar("R", bound=Message)


class AsyncServiceClient(AsyncClosing):
    """The base class of the asyncio clients, each of which belongs to one event loop.

    Make a client in a coroutine. Its methods raise the same errors and retry the same calls as those of
    `ServiceClient`. A client may be used as an asynchronous context manager, which closes it. A call whose
    task is cancelled is cancelled.
    """

    _own_connection: ClassVar[bool] = False
    """True if the client has a connection of its own, shared with no other client of this process."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        options: ClientOptions | None = None,
        channel: grpc.aio.Channel | None = None,
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

    async def close(self) -> None:
        """Close the channel, unless the caller passed it in; calls in progress are cancelled."""
        if self._own:
            await self._channel.close()

    def _open_channel(self) -> grpc.aio.Channel:
        return open_async_channel(self._target, self._options, own_connection=self._own_connection)

    async def _call(self, method: Callable[..., Awaitable[R]], request: Message) -> R:
        """Call the method; once more if the service refuses the caller's token, and `bearer` has another."""
        seconds = self._options.timeout.total_seconds()
        end = time.monotonic() + seconds
        metadata = await self._options.async_metadata(seconds)
        with translated(late=f"the service did not answer within {seconds:g} s"):
            try:
                return await method(request, timeout=seconds_until(end), metadata=metadata)
            except grpc.RpcError as error:
                if not self._options.may_repeat(metadata, refused_token(error)):
                    raise
            metadata = await self._options.async_metadata(seconds_until(end))
            return await method(request, timeout=seconds_until(end), metadata=metadata)

    @asynccontextmanager
    async def _stream(self, method: Callable[..., Any], request: Message) -> AsyncIterator[Any]:
        """Open a stream without a deadline, and cancel it at the end of the block.

        If the service refuses the caller's token, and `bearer` has another, the next stream gets that.
        """
        metadata = await self._options.async_metadata()
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


def open_async_channel(
    target: str, options: ClientOptions, *, own_connection: bool = False
) -> grpc.aio.Channel:
    """Open a channel as `open_channel` does, with the same errors."""
    arguments = options.channel_arguments(own_connection=own_connection)
    if options.tls is None:
        check_plaintext(target, allow_plaintext=options.allow_plaintext)
        return grpc.aio.insecure_channel(target, options=arguments)
    return grpc.aio.secure_channel(target, options.tls.credentials(), options=arguments)
