"""The settings that bound calls, streams and connections of clients; docs/limits.md describes each bound."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Final

from pydantic import BaseModel, Field, field_validator

from identity_service.config.values import Duration, Texts, whole, within
from identity_service.domain.forwarded import Network
from identity_service.transport.quotas import UNIX, network_of

_MOST: Final = 1_000_000
_LEAST_ENVOY_MEMORY: Final = 128 * 2**20


class LimitSettings(BaseModel):
    """The limits for clients, a part of `Settings`."""

    max_message_bytes: int = Field(
        16 * 2**20, ge=2**16, le=2**26, description="largest gRPC message, in bytes; 64 KiB to 64 MiB"
    )
    max_connections: int = whole(20_000, 1, _MOST, "connections at once; further ones are closed")
    max_streams_per_connection: int = whole(
        100, 1, 10_000, "calls at once on one connection; further ones wait"
    )
    max_calls: int = whole(4096, 1, _MOST, "open calls at once")
    max_calls_per_peer: int = whole(512, 1, _MOST, "open calls at once from one address")
    max_receives: int = whole(1024, 1, _MOST, "calls at once whose request has not arrived completely")
    max_receives_per_peer: int = whole(
        32, 1, _MOST, "the same, from one address; further ones have 0.2 s to arrive"
    )
    request_timeout: Annotated[Duration, within("100ms", "10m")] = Field(
        timedelta(seconds=10),
        description="time for a request to arrive completely, after which its call ends; 100ms to 10m",
    )
    send_timeout: Annotated[Duration, within("100ms", "5m")] = Field(
        timedelta(seconds=5),
        description="time for a client to read an answer, or one message of a stream; 100ms to 5m",
    )
    max_watchers: int = whole(2000, 0, 100_000, "streams of Watch at once")
    max_watchers_per_peer: int = whole(256, 0, 100_000, "the same, from one address")
    watch_queue: int = whole(1000, 10, 1_000_000, "messages that one watcher may have waiting")
    max_health_watchers: int = whole(1000, 0, 100_000, "streams of grpc.health.v1 Watch at once")
    max_health_watchers_per_peer: int = whole(32, 0, 100_000, "the same, from one address")
    max_reflection_streams: int = whole(64, 0, 10_000, "streams of server reflection at once")
    max_reflection_streams_per_peer: int = whole(8, 0, 10_000, "the same, from one address")
    max_audit_tails: int = whole(8, 0, 1000, "calls of TailAuditEvents at once")
    envoy_memory: int = Field(
        0,
        ge=0,
        le=2**44,
        description="bytes of heap of Envoy, with the service inside, near which calls are refused: 0, or "
        "128 MiB to 16 TiB; 0 = half the memory of the container or machine, shared by the workers",
    )
    limits_exempt: Texts = Field(
        ("127.0.0.1", "::1", UNIX),
        description="addresses and networks (CIDR) without limits for one address; `unix` = Unix sockets, "
        "empty = none",
    )
    trusted_proxies: Texts = Field(
        (),
        description="addresses and networks (CIDR) of proxies whose x-forwarded-for names the client; "
        "empty = none",
    )

    @field_validator("limits_exempt")
    @classmethod
    def _check_exempt(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if text != UNIX:
                _check_network(text, ", nor `unix`")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if _check_network(text).prefixlen == 0:
                raise ValueError(f"{text!r} contains every address, so clients could choose theirs")
        return value

    def _wrong_limits(self) -> Iterator[str]:
        """Report each limit that is invalid although it lies within its bounds."""
        if 0 < self.envoy_memory < _LEAST_ENVOY_MEMORY:
            yield "envoy_memory: must be 0, or at least 134217728 (128 MiB)"


def _check_network(text: str, or_else: str = "") -> Network:
    try:
        return network_of(text)
    except ValueError:
        kind = "neither" if or_else else "not"
        raise ValueError(
            f"{text[:64]!r} is {kind} an address or network such as 10.0.0.0/8{or_else}"
        ) from None
