"""The settings that bound calls, streams and connections of clients; docs/limits.md describes each bound."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Final

from pydantic import BaseModel, Field, field_validator

from identity_service.config.values import Duration, Texts, within
from identity_service.domain.forwarded import Network
from identity_service.transport.quotas import UNIX, network_of

_MOST: Final = 1_000_000
_LEAST_ENVOY_MEMORY: Final = 128 * 2**20


class LimitSettings(BaseModel):
    """The limits for clients, a part of `Settings`."""

    max_message_bytes: int = Field(
        16 * 2**20, ge=2**16, le=2**26, description="largest gRPC message, in bytes; 64 KiB to 64 MiB"
    )
    max_connections: int = Field(
        20_000, ge=1, le=_MOST, description="connections at once; further ones are closed; 1 to 1,000,000"
    )
    max_streams_per_connection: int = Field(
        100, ge=1, le=10_000, description="calls at once on one connection; further ones wait; 1 to 10,000"
    )
    max_calls: int = Field(4096, ge=1, le=_MOST, description="open calls at once; 1 to 1,000,000")
    max_calls_per_peer: int = Field(
        512, ge=1, le=_MOST, description="open calls at once from one address; 1 to 1,000,000"
    )
    max_receives: int = Field(
        1024,
        ge=1,
        le=_MOST,
        description="calls at once whose request has not arrived completely; 1 to 1,000,000",
    )
    max_receives_per_peer: int = Field(
        32,
        ge=1,
        le=_MOST,
        description="the same, from one address; further ones have 0.2 s to arrive; 1 to 1,000,000",
    )
    request_timeout: Annotated[Duration, within("100ms", "10m")] = Field(
        timedelta(seconds=10),
        description="time for a request to arrive completely, after which its call ends; 100ms to 10m",
    )
    send_timeout: Annotated[Duration, within("100ms", "5m")] = Field(
        timedelta(seconds=5),
        description="time for a client to read an answer, or one message of a stream; 100ms to 5m",
    )
    max_watchers: int = Field(2000, ge=0, le=100_000, description="streams of Watch at once; 0 to 100,000")
    max_watchers_per_peer: int = Field(
        256, ge=0, le=100_000, description="the same, from one address; 0 to 100,000"
    )
    watch_queue: int = Field(
        1000, ge=10, le=1_000_000, description="messages that one watcher may have waiting; 10 to 1,000,000"
    )
    max_health_watchers: int = Field(
        1000, ge=0, le=100_000, description="streams of grpc.health.v1 Watch at once; 0 to 100,000"
    )
    max_health_watchers_per_peer: int = Field(
        32, ge=0, le=100_000, description="the same, from one address; 0 to 100,000"
    )
    max_reflection_streams: int = Field(
        64, ge=0, le=10_000, description="streams of server reflection at once; 0 to 10,000"
    )
    max_reflection_streams_per_peer: int = Field(
        8, ge=0, le=10_000, description="the same, from one address; 0 to 10,000"
    )
    max_audit_tails: int = Field(8, ge=0, le=1000, description="calls of TailAuditEvents at once; 0 to 1,000")
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
