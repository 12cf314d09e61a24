"""The asyncio client of TrustService: the published keys, and the stream of revocations."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import grpc.aio

from identity_client.async_connection import AsyncServiceClient
from identity_client.errors import SilentError
from identity_client.options import ClientOptions
from identity_client.trust import KeySet, WatchEvent, to_event, to_key_set
from identityapi.v1 import trust_service_pb2 as pb
from identityapi.v1 import trust_service_pb2_grpc as rpc


class AsyncTrustClient(AsyncServiceClient):
    """A client of TrustService for asyncio, for verifiers that verify tokens locally.

    See `AsyncServiceClient` for errors, retries and event loops.
    """

    _own_connection = True  # a watch may close the connection, which must not disturb other clients

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        options: ClientOptions | None = None,
        channel: grpc.aio.Channel | None = None,
    ) -> None:
        """Create a client; the arguments are those of `AsyncServiceClient`."""
        super().__init__(target, options=options, channel=channel)
        self._stub = rpc.TrustServiceStub(self._channel)
        self._closed = False

    async def close(self) -> None:
        """Close the channel, unless the caller passed it in."""
        self._closed = True
        await super().close()

    async def get_keys(self) -> KeySet:
        """Return the published keys."""
        return to_key_set((await self._call(self._stub.GetKeys, pb.GetKeysRequest())).key_set)

    async def watch(
        self, resume_after: str = "", *, max_silence: timedelta | None = None
    ) -> AsyncGenerator[WatchEvent]:
        """Follow the revocations and keys, until the stream ends or the iterator is closed.

        See `TrustClient.watch`.
        """
        request = pb.WatchRequest(resume_after=resume_after)
        # The limit of the first message is twice as long, as in `silence.until_silent`.
        limit = None if max_silence is None else 2 * max_silence
        try:
            async with self._stream(self._stub.Watch, request) as stream:
                while (message := await _next(stream, limit)) is not grpc.aio.EOF:
                    yield to_event(message)
                    limit = max_silence
        except SilentError:
            await self._reconnect()
            raise

    async def _reconnect(self) -> None:
        """Replace a connection that may be dead, on which another stream would be silent as well."""
        if self._closed or not self._own:
            return
        with suppress(OSError):  # a TLS file cannot be read now: keep the old channel
            old, self._channel = self._channel, self._open_channel()
            self._stub = rpc.TrustServiceStub(self._channel)
            await old.close()


async def _next(stream: Any, limit: timedelta | None) -> Any:
    """Return the next message, or `grpc.aio.EOF`. Raises SilentError if none comes within `limit`."""
    if limit is None:
        return await stream.read()
    try:
        async with asyncio.timeout(limit.total_seconds()):
            return await stream.read()
    except TimeoutError:
        raise SilentError(
            f"the service has sent nothing for {limit.total_seconds():g} s",
            code=grpc.StatusCode.UNAVAILABLE,
        ) from None
