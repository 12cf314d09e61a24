"""The settings of the ports that a process serves: addresses, TLS, and what callers must prove there."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from identity_service.config.issuer_url import why_not_issuer_url
from identity_service.config.limits import LimitSettings
from identity_service.config.values import (
    Address,
    Duration,
    OptionalAddress,
    Split,
    WebOrigin,
    within,
)
from identity_service.domain.urls import is_loopback


class ListenerSettings(LimitSettings):
    """The ports of a process, with the limits of `LimitSettings`; a part of `Settings`."""

    listen: Address = Field(
        "127.0.0.1:50051", description="host:port of the gRPC server; port 0 = a free one"
    )
    http_listen: OptionalAddress = Field(
        "",
        description="host:port of OAuth 2.0, the key set and probes over HTTP; empty = none; with the engine "
        "envoy it may be that of `listen`",
    )
    mtls_listen: OptionalAddress = Field(
        "", description="host:port that requires client certificates; `listen` then requests none"
    )
    http_mtls_listen: OptionalAddress = Field(
        "",
        description="host:port that serves the same paths as `http_listen` and requires client certificates; "
        "empty = none",
    )
    http_mtls_url: str = Field(
        "",
        max_length=256,
        description="https URL at which clients reach http_mtls_listen, or the proxy that forwards their "
        "certificates; the metadata names it",
    )
    metrics_listen: OptionalAddress = Field(
        "", description="host:port of /metrics for Prometheus; empty = none"
    )
    web_origins: Annotated[tuple[WebOrigin, ...], Split] = Field(
        (),
        max_length=64,
        description="origins of pages that may call by gRPC-Web on the port of `http_listen`, as in "
        "https://app.example.org; empty = no gRPC-Web",
    )
    engine: Literal["grpcio", "envoy"] = Field(
        "grpcio", description="gRPC engine; envoy is about 3 times as fast and needs the extra [envoy]"
    )
    insecure: bool = Field(default=False, description="allow listening beyond loopback without TLS")
    tls_certificate: Path | None = Field(
        None, description="PEM file: the server's certificate, followed by the intermediate certificates"
    )
    tls_key: Path | None = Field(None, description="PEM file (mode 0600): the key of tls_certificate")
    tls_client_ca: Path | None = Field(
        None,
        description="PEM file: authorities of client certificates; a client certificate is then required",
    )
    client_certificate_header: Literal["", "client-cert", "x-forwarded-client-cert"] = Field(
        "",
        description="header in which trusted_proxies forward client certificates: client-cert or "
        "x-forwarded-client-cert; empty = none is believed",
    )
    require_caller_auth: bool | None = Field(
        None, description="whether Verify needs a caller with scope identity.verify; always on with TLS"
    )
    ext_authz_descriptors: Path | None = Field(
        None,
        description="file of compiled protos (FileDescriptorSet), whose option (identityapi.v1.access) names "
        "the token that Envoy's ext_authz requires for a method",
    )
    reflection: bool = Field(
        default=False, description="gRPC server reflection, for tools such as grpcurl; on with --dev"
    )
    watch_heartbeat: Annotated[Duration, within("50ms", "1m")] = Field(
        timedelta(seconds=1), description="time between heartbeats to watchers; 50ms to 1m"
    )
    max_connection_age: Annotated[Duration, within("1s", "365d")] = Field(
        timedelta(minutes=30),
        description="age of a connection at which its client is asked to reconnect; 1s to 365d",
    )
    drain_grace: Annotated[Duration, within("0s", "10m")] = Field(
        timedelta(seconds=10), description="time for calls in progress when the service stops; at most 10m"
    )

    @property
    def shares_port(self) -> bool:
        """Return whether the port of `listen` serves HTTP, too."""
        return self.engine == "envoy" and self.http_listen == self.listen

    @property
    def callers_prove_themselves(self) -> bool:
        """Return whether Verify, ext_authz, GetKeys and Watch need a caller with scope identity.verify."""
        return self.tls_certificate is not None or bool(self.require_caller_auth)

    def _wrong_listeners(self) -> Iterator[str]:
        """Report each invalid combination of these settings."""
        for name, address in (("listen", self.listen), ("http_listen", self.http_listen)):
            if address and not self.insecure and not self.tls_certificate and not is_loopback(address):
                yield (
                    f"{name}: is beyond loopback, and tokens would cross the network unencrypted; set "
                    "tls_certificate and tls_key, or insecure = true (--insecure) if a proxy terminates TLS"
                )
        if not self.insecure and self.metrics_listen and not is_loopback(self.metrics_listen):
            yield "metrics_listen: is beyond loopback, without TLS; set insecure = true to allow it"
        if self.web_origins and not self.http_listen:
            yield "web_origins: needs http_listen, whose port serves gRPC-Web"
        yield from self._wrong_addresses()
        yield from self._wrong_tls()

    def _wrong_addresses(self) -> Iterator[str]:
        """Report two settings with the same address; port 0 stands for another port each time."""
        taken = {self.mtls_listen: "mtls_listen"}
        for name, address in (("http_listen", self.http_listen), ("http_mtls_listen", self.http_mtls_listen)):
            if address in taken and address and not address.endswith(":0"):
                yield f"{name}: is the address of {taken[address]}; name another port"
            taken |= {self.listen: "listen", address: name}
        shared = self.http_listen == self.listen and not self.listen.endswith(":0")
        if shared and not self.shares_port:
            yield "http_listen: only the engine envoy serves HTTP on the port of `listen`; name another port"

    def _wrong_tls(self) -> Iterator[str]:
        if (self.tls_certificate is None) != (self.tls_key is None):
            yield "tls_certificate: set it together with tls_key, or neither"
        if self.tls_client_ca is not None and self.tls_certificate is None:
            yield "tls_client_ca: needs tls_certificate and tls_key"
        if self.mtls_listen and self.tls_client_ca is None:
            yield "mtls_listen: needs tls_client_ca, the authorities of the certificates that it requires"
        yield from self._wrong_http_mtls()
        if self.client_certificate_header and not self.trusted_proxies:
            yield (
                "client_certificate_header: needs trusted_proxies; list the addresses of the proxies that "
                "set this header"
            )
        if self.client_certificate_header == "x-forwarded-client-cert" and self.engine == "envoy":
            yield "client_certificate_header: the engine envoy removes this header; choose client-cert"
        if self.require_caller_auth is False and self.tls_certificate is not None:
            yield "require_caller_auth: is always on with TLS; leave it out"

    def _wrong_http_mtls(self) -> Iterator[str]:
        if self.http_mtls_listen and not self.http_listen:
            yield "http_mtls_listen: needs http_listen; set it, since its metadata names http_mtls_url"
        if self.http_mtls_listen and self.tls_client_ca is None:
            yield "http_mtls_listen: needs tls_client_ca, the authorities of its clients' certificates"
        if self.http_mtls_listen and not self.http_mtls_url:
            yield "http_mtls_url: set it to the https URL at which clients reach http_mtls_listen"
        if self.http_mtls_url and not (self.http_mtls_listen or self.client_certificate_header):
            yield (
                "http_mtls_url: needs http_mtls_listen, or client_certificate_header if a proxy forwards the "
                "certificates; set one of them, or leave it out"
            )
        elif self.http_mtls_url and not self.http_mtls_url.startswith("https://"):
            yield "http_mtls_url: must be an https URL such as https://mtls.identity.example.org"
        elif self.http_mtls_url and (why := why_not_issuer_url(self.http_mtls_url, dev=False)):
            yield f"http_mtls_url: {why}"
