"""Calls of gRPC services with an access token; `identity_client.grpc.aio` has the same names for asyncio."""

from identity_client.grpc._channel import NoTokenError, secure_channel

__all__ = ["NoTokenError", "secure_channel"]
