"""The limits that Envoy enforces: connections, streams, time and memory; docs/engines.md lists them.

Envoy has no limits per address; those are enforced in Python (`identity_service/transport/limits.py`).
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from identity_service.envoy.paths import busy_route

TYPES: Final = "type.googleapis.com/envoy.extensions."

STREAM_BYTES: Final = 256 * 1024
"""The number of bytes of one stream that Envoy buffers, in each direction, until Python or the client reads
them."""
_CONNECTION_BYTES: Final = 1024 * 1024
"""The number of received bytes that Envoy buffers for all streams of one connection together."""
_CONNECTION_IDLE: Final = timedelta(minutes=5)
"""The time after which a connection without a stream is closed; a gRPC client opens another for its next
call."""
_QUIET_STREAM_IDLE: Final = timedelta(hours=1)
_QUIET_STREAMS: Final = ("/grpc.health.v1.Health/Watch", "/identityapi.v1.AdminService/TailAuditEvents")
"""Methods whose streams may send no message for a long time, until an event occurs."""
_BUSY: Final = (
    "/identityapi.v1.IdentityService/Verify",
    "/identityapi.v1.IdentityService/VerifyBatch",
    "/envoy.service.auth.v3.Authorization/Check",
)
"""Methods that are called so often that a filter which they do not need would show in their rate."""
_AFTER_PYTHON: Final = timedelta(seconds=2)
"""The time after `request_timeout` at which Envoy ends an unfinished request; Python should have ended it by
then."""
_MAX_RESETS: Final = 200
"""Envoy's bound on early resets: a connection is closed once its client has reset half this number of streams
within 1 s of their start."""
_REQUESTS_PER_CYCLE: Final = 16
"""The number of requests that Envoy takes from one connection before it serves other connections."""

_REQUEST_TIMEOUT_STATUS: Final = 408
_DEADLINE_EXCEEDED: Final = "4"
"""The code of the gRPC status DEADLINE_EXCEEDED."""

_HEAP: Final = "envoy.resource_monitors.fixed_heap"
_CONNECTIONS: Final = "envoy.resource_monitors.global_downstream_max_connections"
_HEAP_IS_READ: Final = "0.25s"
_SHRINK, _RESET_FROM, _RESET_ALL, _REFUSE = 0.8, 0.85, 0.95, 0.9
"""Thresholds of heap use, as fractions of the memory limit.

From the first, Envoy returns free memory to the system. From the second, it resets the largest streams, and
from the third all large streams. From the fourth, it refuses calls.
"""
_RELEASED: Final = 256 * 2**20
"""The number of bytes of free memory that Envoy returns to the system each second; otherwise its allocator
keeps them."""
_LARGE_STREAM: Final = 15
"""The power of two, in bytes, from which the buffers of a stream count as large: 32 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyLimits:
    """The limits that depend on settings."""

    request_timeout: timedelta
    """The longest time that a request may take to arrive."""
    open_ended: bool
    """True if a method has request streams, which may stay open, so that Envoy must not end long requests."""
    send_timeout: timedelta
    """The longest time that a complete response waits for its client to read it."""
    max_connections: int
    max_streams_per_connection: int
    memory: int
    """The number of bytes of heap that Envoy and the service inside it may use together; near it, calls are
    refused."""
    stream_idle: timedelta = timedelta(minutes=2)
    """The time after which a stream that neither sends nor receives is reset: twice the longest
    `watch_heartbeat`. Python cannot end a stream whose client does not read, since pyvoy forwards nothing
    until the client reads."""


def bootstrap(limits: EnvoyLimits) -> Mapping[str, Any]:
    """Return the fields of the bootstrap configuration that bound the whole process."""
    return {
        "overload_manager": _overload_manager(limits),
        "memory_allocator_manager": {"bytes_to_release": _RELEASED, "memory_release_interval": "1s"},
        "layered_runtime": {
            "layers": [
                {
                    "name": "limits",
                    "static_layer": {
                        "overload.premature_reset_total_stream_count": _MAX_RESETS,
                        "overload.premature_reset_min_stream_lifetime_seconds": 1,
                        "http.max_requests_per_io_cycle": _REQUESTS_PER_CYCLE,
                    },
                }
            ]
        },
    }


def connection_manager(limits: EnvoyLimits, max_connection_age: timedelta) -> Mapping[str, Any]:
    """Return the fields of the HTTP connection manager that bound connections, streams and requests."""
    found: dict[str, Any] = {
        "common_http_protocol_options": {
            "idle_timeout": duration(_CONNECTION_IDLE),
            "max_connection_duration": duration(max_connection_age),
        },
        "http2_protocol_options": {
            "max_concurrent_streams": limits.max_streams_per_connection,
            "initial_stream_window_size": STREAM_BYTES,
            "initial_connection_window_size": _CONNECTION_BYTES,
            "connection_keepalive": {"interval": "60s", "timeout": "20s"},
        },
        "request_headers_timeout": duration(limits.request_timeout),
        "stream_idle_timeout": duration(limits.stream_idle),
        "stream_flush_timeout": duration(limits.send_timeout),
        "local_reply_config": {"mappers": [_deadline_exceeded()]},
        "route_config": _routes(),
    }
    if not limits.open_ended:
        found["request_timeout"] = duration(limits.request_timeout + _AFTER_PYTHON)
    return found


def default_memory(processes: int, cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the default of `envoy_memory`, in bytes, for each of this many processes.

    They share half of the memory of the container, or of the machine if no control group limits it further.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_cgroup_limits(cgroups)]) // 2 // processes


def duration(length: timedelta) -> str:
    """Return a duration in the JSON form of google.protobuf.Duration, such as `2.500s`."""
    return f"{length.total_seconds():.3f}s"


def _overload_manager(limits: EnvoyLimits) -> Mapping[str, Any]:
    """Return the limits of connections and memory, and Envoy's actions when the heap fills."""
    monitors = "resource_monitors"
    return {
        "refresh_interval": _HEAP_IS_READ,
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": _LARGE_STREAM},
        "resource_monitors": [
            {
                "name": _CONNECTIONS,
                "typed_config": {
                    "@type": f"{TYPES}{monitors}.downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": limits.max_connections,
                },
            },
            {
                "name": _HEAP,
                "typed_config": {
                    "@type": f"{TYPES}{monitors}.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": limits.memory,
                },
            },
        ],
        "actions": [
            _action("shrink_heap", {"threshold": {"value": _SHRINK}}),
            _action(
                "reset_high_memory_stream",
                {"scaled": {"scaling_threshold": _RESET_FROM, "saturation_threshold": _RESET_ALL}},
            ),
            _action("stop_accepting_requests", {"threshold": {"value": _REFUSE}}),
        ],
    }


def _action(name: str, trigger: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"name": f"envoy.overload_actions.{name}", "triggers": [{"name": _HEAP, **trigger}]}


def _deadline_exceeded() -> Mapping[str, Any]:
    """Return a mapper of HTTP status 408 to DEADLINE_EXCEEDED; without it, Envoy would send UNKNOWN."""
    is_timeout = {"op": "EQ", "value": {"default_value": _REQUEST_TIMEOUT_STATUS, "runtime_key": "unset"}}
    return {
        "filter": {"status_code_filter": {"comparison": is_timeout}},
        "headers_to_add": [
            {
                "header": {"key": "grpc-status", "value": _DEADLINE_EXCEEDED},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    }


def _routes() -> Mapping[str, Any]:
    """Return the routes. They forward nothing, since the application answers first.

    They set idle timeouts, and skip a filter on the paths of `_BUSY`.
    """
    quiet = {"cluster": "unused", "idle_timeout": duration(_QUIET_STREAM_IDLE)}
    routes = [
        *map(busy_route, _BUSY),
        *({"match": {"path": path}, "route": quiet} for path in _QUIET_STREAMS),
    ]
    return {
        "validate_clusters": False,
        "virtual_hosts": [{"name": "service", "domains": ["*"], "routes": routes}],
    }


def _cgroup_limits(root: Path) -> Iterator[int]:
    """Yield the memory limits, in bytes, of this process's control groups (version 2, then 1)."""
    own = root / _own_cgroup()
    for path in (
        *(folder / "memory.max" for folder in (own, *own.parents) if folder.is_relative_to(root)),
        root / "memory" / "memory.limit_in_bytes",
    ):
        try:
            yield int(path.read_text())
        except (OSError, ValueError):  # no such control group, or "max": no limit
            continue


def _own_cgroup() -> str:
    """Return the path of this process's control group (version 2) below the root; empty if unknown."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    return next((line.removeprefix("0::").strip("/") for line in lines if line.startswith("0::")), "")
