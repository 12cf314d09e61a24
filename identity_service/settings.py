"""Settings: what the operator decides, with its bounds. `settings_sources.py` says where it comes from.

Knows no source and no secret but the master key, which it hides.
"""

import stat
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from identity_service.domain.errors import ConfigurationError
from identity_service.domain.secret import Secret

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _parse_duration(value: object) -> object:
    """`500ms`, `15m`, `24h`, `30d`, or seconds as a number."""
    if isinstance(value, str):
        text = value.strip()
        unit = text.lstrip("0123456789.")
        number = text.removesuffix(unit) if unit else text
        try:
            return timedelta(seconds=float(number) * _UNITS[unit or "s"])
        except (KeyError, ValueError, OverflowError):
            raise ValueError("must be a duration such as 500ms, 15m, 24h or 30d") from None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return timedelta(seconds=value)
    return value


Duration = Annotated[timedelta, BeforeValidator(_parse_duration)]


class Settings(BaseModel):
    """What the operator decides."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    store: str = Field("sqlite:///var/identity.db", description="sqlite:///path, redis:// or rediss:// URL")
    listen: str = Field("127.0.0.1:50051", description="host:port of the gRPC server")
    insecure: bool = Field(default=False, description="allow to listen beyond loopback without TLS")
    issuer: str = Field("identity-service", min_length=1, max_length=256, description="claim iss")
    service_audience: str = Field(
        "identity-service",
        min_length=1,
        max_length=256,
        description="audience of tokens that call this service",
    )
    algorithm: Literal["ES256", "ES384", "EdDSA", "RS256", "PS256", "HS256"] = Field(
        "ES256", description="of the signing key that `identity init` makes"
    )
    access_token_lifetime: Duration = Field(timedelta(minutes=15), description="default, of access tokens")
    max_access_token_lifetime: Duration = Field(timedelta(hours=24), description="at most, of access tokens")
    session_lifetime: Duration = Field(timedelta(days=30), description="of a sign-in, absolute")
    leeway: Duration = Field(timedelta(seconds=10), description="how far clocks may differ; at most 5m")
    refresh_grace: Duration = Field(
        timedelta(seconds=60),
        description="how long a rotated refresh token gives its successor again; at most 1h",
    )
    beat_interval: Duration = Field(
        timedelta(milliseconds=500), description="between heartbeats to the store"
    )
    max_staleness: Duration = Field(
        timedelta(seconds=5), description="since the last confirmed heartbeat, then calls are UNAVAILABLE"
    )
    on_stale: Literal["refuse", "serve"] = Field("refuse", description="what Verify does when too stale")
    durability: Literal["unsynced", "local"] = Field(
        "local", description="what a write must have reached before it is acknowledged"
    )
    allow_unsafe_redis: bool = Field(default=False, description="accept a Redis that may evict keys")
    require_caller_auth: bool = Field(
        default=False, description="Verify needs a caller with scope identity.verify"
    )
    known_scopes: tuple[str, ...] = Field((), description="the scopes of this deployment; empty = any")
    master_key: SecretStr | None = Field(
        None, description="seals the keys in the store; 32 characters or more"
    )
    master_key_file: Path | None = Field(None, description="a file (mode 0600) that holds the master key")
    max_message_bytes: int = Field(16 * 2**20, ge=2**16, le=2**26, description="of one gRPC message")
    verify_threads: int = Field(4, ge=1, le=64, description="threads that answer from memory")
    work_threads: int = Field(32, ge=2, le=256, description="threads that may wait for the store")
    password_threads: int = Field(2, ge=1, le=32, description="threads that hash passwords (64 MiB each)")
    password_queue: int = Field(16, ge=0, le=200, description="passwords that may wait for such a thread")
    strong_limit: int = Field(2, ge=1, le=64, description="Verify calls that may wait for the store at once")
    cache_entries: int = Field(10_000, ge=2, le=10_000_000, description="verified tokens to remember")
    max_connection_age: Duration = Field(
        timedelta(minutes=30), description="then clients are asked to reconnect"
    )
    drain_grace: Duration = Field(timedelta(seconds=10), description="for calls in progress when stopping")
    reflection: bool = Field(default=True, description="gRPC server reflection")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")
    log_format: Literal["json", "console"] = Field("json", description="of the log on standard error")
    argon2_time_cost: int = Field(3, ge=1, le=100, description="passes of argon2id (RFC 9106)")
    argon2_memory_kib: int = Field(65536, ge=8, le=2**22, description="memory of argon2id in KiB")
    argon2_parallelism: int = Field(4, ge=1, le=64, description="lanes of argon2id")

    @field_validator("known_scopes", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """The environment has no lists: names separated by commas or spaces."""
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    @field_validator("store")
    @classmethod
    def _check_store(cls, value: str) -> str:
        scheme, separator, rest = value.partition("://")
        if scheme in ("redis+sentinel", "redis+cluster"):
            raise ValueError(f"{scheme}:// is not offered by this version; use redis:// or sqlite:///")
        if not separator or scheme not in ("sqlite", "redis", "rediss"):
            raise ValueError("must be sqlite:///path, redis://host:port/db or rediss://host:port/db")
        if scheme == "sqlite" and not rest.removeprefix("/"):
            raise ValueError("must name a file, as in sqlite:///var/identity.db")
        return value

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        _, colon, port = value.rpartition(":")
        if not colon or not port.isdecimal() or int(port) > 65535:
            raise ValueError("must be host:port")
        return value

    @model_validator(mode="after")
    def _check_durations(self) -> Self:
        _within("access_token_lifetime", self.access_token_lifetime, "1s", "24h")
        _within("max_access_token_lifetime", self.max_access_token_lifetime, "1s", "24h")
        _within("session_lifetime", self.session_lifetime, "1m", "400d")
        _within("leeway", self.leeway, "0s", "5m")
        _within("refresh_grace", self.refresh_grace, "0s", "1h")
        _within("beat_interval", self.beat_interval, "10ms", "1m")
        _within("max_staleness", self.max_staleness, "50ms", "1h")
        _within("max_connection_age", self.max_connection_age, "1s", "365d")
        _within("drain_grace", self.drain_grace, "0s", "10m")
        if self.access_token_lifetime > self.max_access_token_lifetime:
            raise ValueError("access_token_lifetime: must not be longer than max_access_token_lifetime")
        if self.max_staleness <= 2 * self.beat_interval:
            raise ValueError("max_staleness: must be longer than two times beat_interval")
        return self

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.master_key is not None and self.master_key_file is not None:
            raise ValueError("master_key: set either this or master_key_file, not both")
        if not self.insecure and not is_loopback(self.listen):
            raise ValueError(
                "listen: is beyond loopback, and tokens would cross the network in the clear; "
                "put a proxy with TLS in front, or set insecure = true (--insecure) if you know better"
            )
        if self.strong_limit >= self.verify_threads > 1:
            raise ValueError("strong_limit: must be less than verify_threads")
        if self.password_threads + self.password_queue >= self.work_threads:
            raise ValueError("work_threads: must be more than password_threads and password_queue together")
        return self

    def read_master_key(self) -> Secret:
        """The master key. Raises ConfigurationError: none is set, or its file is open to others."""
        if self.master_key is not None:
            return Secret(self.master_key.get_secret_value())
        if self.master_key_file is None:
            raise ConfigurationError(
                "master_key: is not set; make one with `openssl rand -base64 32`, keep it in a file of mode "
                "0600 and set IDENTITY_MASTER_KEY_FILE"
            )
        path = self.master_key_file
        try:
            if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigurationError(f"master_key_file: others may read {path}; run `chmod 600 {path}`")
            return Secret(path.read_text().strip())
        except OSError as error:
            raise ConfigurationError(f"master_key_file: cannot read {path}: {error.strerror}") from error

    def masked(self) -> dict[str, str]:
        """Every value as text, secrets hidden, for `identity config show`."""
        return {name: _mask(name, getattr(self, name)) for name in type(self).model_fields}


def is_loopback(listen: str) -> bool:
    """Whether host:port is reached from this machine only."""
    host = listen.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _within(name: str, value: timedelta, low: str, high: str) -> None:
    lowest, highest = _parse_duration(low), _parse_duration(high)
    assert isinstance(lowest, timedelta)  # noqa: S101  # they are written above
    assert isinstance(highest, timedelta)  # noqa: S101
    if not lowest <= value <= highest:
        raise ValueError(f"{name}: must be from {low} to {high}")


def _mask(name: str, value: object) -> str:
    if isinstance(value, SecretStr):
        return "***"
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if name == "store" and isinstance(value, str) and "@" in value:
        scheme, _, rest = value.partition("://")
        return f"{scheme}://***@{rest.rpartition('@')[2]}"
    return "" if value is None else str(value)
