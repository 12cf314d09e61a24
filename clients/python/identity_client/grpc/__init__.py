"""Protects gRPC servers with threads, and calls such servers. `identity_client.grpc.aio` is for asyncio."""

from identity_client.caller import Caller, caller, caller_or_none
from identity_client.grpc._channel import NoTokenError, secure_channel
from identity_client.grpc._guard import Guard
from identity_client.policy import ALLOW_FOR, ASK, REFUSE, Policy, PolicyError, public, requires

__all__ = [
    "ALLOW_FOR",
    "ASK",
    "Caller",
    "Guard",
    "NoTokenError",
    "Policy",
    "PolicyError",
    "REFUSE",
    "caller",
    "caller_or_none",
    "public",
    "requires",
    "secure_channel",
]
