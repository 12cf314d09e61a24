"""Protects gRPC servers in an event loop, and calls such servers. `identity_client.grpc` is for threads."""

from identity_client.caller import Caller, caller, caller_or_none
from identity_client.grpc._aio_channel import secure_channel
from identity_client.grpc._aio_guard import Guard
from identity_client.policy import ALLOW_FOR, ASK, REFUSE, Policy, PolicyError, public, requires

__all__ = [
    "ALLOW_FOR",
    "ASK",
    "Caller",
    "Guard",
    "Policy",
    "PolicyError",
    "REFUSE",
    "caller",
    "caller_or_none",
    "public",
    "requires",
    "secure_channel",
]
