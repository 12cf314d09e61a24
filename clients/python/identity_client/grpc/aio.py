"""The names of `identity_client.grpc` for asyncio (`grpc.aio`)."""

from identity_client.grpc._aio_channel import secure_channel

__all__ = ["secure_channel"]
