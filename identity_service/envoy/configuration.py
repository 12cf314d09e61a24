"""Builds Envoy's configuration: listeners, TLS, the filter that runs Python. The module starts nothing.

The limits are in `limits.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from pyvoy import PyvoyServer

from identity_service.envoy.certificates import AUTHORITIES, SERVER, secret_source
from identity_service.envoy.limits import (
    STREAM_BYTES,
    TYPES,
    EnvoyLimits,
    bootstrap,
    connection_manager,
    duration,
)
from identity_service.envoy.paths import only_utf8
from identity_service.envoy.web import web_filters, with_web_routes

_MAX_HEADERS_KIB: Final = 64
"""The longest headers that Envoy accepts, in KiB. The ASGI engine accepts fewer (32 KiB), so that it refuses
longer headers with a gRPC status; Envoy would refuse them with an HTTP status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """One port that Envoy listens on."""

    name: str
    address: str
    """The address to listen on, as host:port."""
    tls: bool = False
    ask: bool = False
    """True if clients must present a certificate that the configured authorities have issued."""
    http: bool = False
    """True if it serves HTTP/1.1 as well as HTTP/2."""
    grpc: bool = True
    """True if it serves gRPC, too, and not HTTP and gRPC-Web alone."""
    origins: Sequence[str] = ()
    """The origins of pages that may call by gRPC-Web on this port; empty = no gRPC-Web."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyConfig:
    """The settings of Envoy."""

    max_connection_age: timedelta
    drain_grace: timedelta
    limits: EnvoyLimits


def admin_socket(directory: Path) -> Path:
    """Return the path of Envoy's administration socket, in a directory that only this user can enter."""
    return directory / "admin"


def configuration(
    app: str, ports: Sequence[Listening], directory: Path, config: EnvoyConfig
) -> dict[str, Any]:
    """Return Envoy's bootstrap configuration (config.bootstrap.v3.Bootstrap), ready for JSON.

    Args:
        app: module:attribute of the ASGI application that runs inside Envoy.
        ports: the ports to listen on.
        directory: a directory of this process alone, for the administration socket and the certificates.
        config: durations and limits.
    """
    filters = _filters(app)
    return {
        "node": {"id": "identity-service", "cluster": "identity-service"},  # for files of secrets (SDS)
        "admin": {"address": {"pipe": {"path": str(admin_socket(directory)), "mode": 0o600}}},
        **bootstrap(config.limits),
        "static_resources": {"listeners": [_listener(port, directory, config, filters) for port in ports]},
    }


def _listener(port: Listening, directory: Path, config: EnvoyConfig, filters: Any) -> dict[str, Any]:
    host, _, number = port.address.rpartition(":")
    chain: dict[str, Any] = {
        "filters": [_http(port, config, filters)],
        # Bounds the TLS handshake.
        "transport_socket_connect_timeout": duration(config.limits.request_timeout),
    }
    if port.tls:
        chain["transport_socket"] = _tls(port, directory)
    return {
        "name": port.name,
        "address": {"socket_address": {"address": host.strip("[]"), "port_value": int(number)}},
        # Other workers of this service may share the address; `reserved` keeps other processes away from it.
        "enable_reuse_port": True,
        # Longer messages reach the application in pieces.
        "per_connection_buffer_limit_bytes": STREAM_BYTES,
        "filter_chains": [chain],
    }


def _http(port: Listening, config: EnvoyConfig, filters: Any) -> dict[str, Any]:
    manager: dict[str, Any] = {
        "@type": f"{TYPES}filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": port.name,
        "codec_type": "AUTO" if port.http else "HTTP2",
        "max_request_headers_kb": _MAX_HEADERS_KIB,
        "drain_timeout": duration(config.drain_grace),
        "generate_request_id": False,
        "server_header_transformation": "PASS_THROUGH",
        # The peer is the address of the connection, not what its headers claim.
        "use_remote_address": True,
        "skip_xff_append": True,
        "forward_client_cert_details": "SANITIZE_SET" if port.ask else "SANITIZE",
        "set_current_client_cert_details": {"cert": True},
        "http_filters": filters,
        **connection_manager(config.limits, config.max_connection_age),
    }
    if port.origins:
        manager["http_filters"] = [*web_filters(port.origins, native=port.grpc), *filters]
        manager["route_config"] = with_web_routes(manager["route_config"], port.origins)
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _filters(app: str) -> Any:
    """Return the HTTP filters: the last one runs the application, as the installed pyvoy configures it."""
    made = PyvoyServer(app, lifespan=True).get_envoy_config()
    (listener,) = made["static_resources"]["listeners"]
    (manager,) = listener["filter_chains"][0]["filters"]
    return [only_utf8(), *manager["typed_config"]["http_filters"]]


def _tls(port: Listening, directory: Path) -> dict[str, Any]:
    common: dict[str, Any] = {
        "alpn_protocols": ["h2", "http/1.1"] if port.http else ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificate_sds_secret_configs": [secret_source(directory, SERVER)],
    }
    if port.ask:
        common["validation_context_sds_secret_config"] = secret_source(directory, AUTHORITIES)
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{TYPES}transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": common,
            "require_client_certificate": port.ask,
            # A session that is resumed would not verify again whether the client's certificate has expired.
            "disable_stateless_session_resumption": port.ask,
            "disable_stateful_session_resumption": port.ask,
        },
    }
