"""The store's Redis URL: its parser, and the factories that create connections from it.

    redis://user:password@host:6379/0              one server
    redis+sentinel://…@host:26379,host:26379/<service>/0   the primary that the Sentinels name
    redis+cluster://…@host:6379,host:6379          a cluster, discovered from any of these servers

`rediss` instead of `redis` selects TLS. Options in the query are those of redis-py (`ssl_ca_certs`,
`ssl_certfile`, `ssl_keyfile`, …); `sentinel_username` and `sentinel_password` are for the Sentinels.
This module does not know which commands are sent. It never puts a URL into an error, since a URL contains
the password.
"""

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from identity_service.domain.errors import ConfigurationError
from identity_service.storage.redis.client.pool import RawConnection

_HEALTH_CHECK_SECONDS: Final = 15
_SENTINEL_PORT: Final = 26379
_PORT: Final = 6379
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_FLAGS: Final = frozenset({"ssl_include_verify_flags", "ssl_exclude_verify_flags"})
"""The options by which a URL sets the verification flags of TLS itself."""
_VALIDATION_TIMEOUT: Final = 1.0

HostPort = tuple[str, int]
Kind = Literal["single", "sentinel", "cluster"]
_KINDS: Final[Mapping[str, Kind]] = {"": "single", "sentinel": "sentinel", "cluster": "cluster"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A parsed URL of a store on Redis."""

    kind: Kind
    hosts: Sequence[HostPort]
    service: str = ""
    """The name under which the Sentinels know the primary; empty without Sentinel."""
    url: str = field(repr=False)
    """The URL of the first host in the form that redis-py parses: one server, `redis` or `rediss`."""
    sentinel_options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The `username` and `password` for the Sentinels, if the URL has them."""


def parse(url: str) -> Address:
    """Parse the URL of a store. Raises ConfigurationError if it is malformed or names a missing file."""
    try:
        return _parse(url)
    except ValueError:
        raise _malformed() from None


def _parse(url: str) -> Address:
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    if scheme not in ("redis", "rediss") or kind not in _KINDS:
        raise ValueError("no such scheme")
    login, at, names = parts.netloc.rpartition("@")
    hosts = [_host(name, _SENTINEL_PORT if kind == "sentinel" else _PORT) for name in names.split(",")]
    if not kind and len(hosts) != 1:
        raise ValueError("one server has one name")
    service, path = "", parts.path
    if kind == "sentinel":
        service, _, database = path.strip("/").partition("/")
        if not service:
            raise ValueError("the Sentinels must be told which primary")
        path = f"/{database or 0}"
    elif kind == "cluster" and path.strip("/") not in ("", "0"):
        raise ValueError("a cluster has no databases")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    _require_files(options)
    of_sentinels = {
        name: options.pop(f"sentinel_{name}")
        for name in ("username", "password")
        if f"sentinel_{name}" in options
    }
    host, port = hosts[0]
    shown = f"[{host}]" if ":" in host else host
    query = f"?{urlencode(options)}" if options else ""
    return Address(
        kind=_KINDS[kind],
        hosts=hosts,
        service=service,
        url=f"{scheme}://{login}{at}{shown}:{port}{path}{query}",
        sentinel_options=of_sentinels,
    )


def maker(address: Address, host: HostPort | None = None) -> Callable[[float], RawConnection]:
    """Return a factory of connections to `host`.

    If `host` is None, to the server of the URL, or to the primary that the Sentinels name. The factory takes
    the timeout, in seconds, of connecting and of each answer. This function raises ConfigurationError for
    options that redis-py does not know.
    """

    @cache
    def source(timeout: float) -> Any:  # a pool of redis-py, which only holds the options
        if address.kind == "sentinel":
            return _sentinel_pool(address, timeout)
        pool = _pool(address, timeout)
        if host is not None:
            pool.connection_kwargs.update(host=host[0], port=host[1])
        return pool

    def make(timeout: float) -> RawConnection:
        return _connection(source(timeout))

    make(_VALIDATION_TIMEOUT)  # opens nothing, but raises an error for options that redis-py does not know
    return make


def _sentinel_pool(address: Address, timeout: float) -> Any:
    model = _pool(address, timeout)
    # Options that redis-py's pool adds for itself are not valid for the pool of the Sentinels.
    own = ("host", "port", "himport_registry", "maint_", "orig_")
    options = {name: value for name, value in model.connection_kwargs.items() if not name.startswith(own)}
    secure = issubclass(model.connection_class, redis.SSLConnection)
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")} if secure else {}
    # A Sentinel that does not answer must not use up the time in which the next one could have answered.
    share = timeout / (len(address.hosts) + 1)
    sentinels: Any = Sentinel(  # type: ignore[no-untyped-call]
        list(address.hosts),
        sentinel_kwargs={**address.sentinel_options, **tls, "ssl": secure, **_timeout_options(share)},
    )
    return SentinelConnectionPool(address.service, sentinels, ssl=secure, **options)  # type: ignore[no-untyped-call]


def _pool(address: Address, timeout: float) -> Any:
    """Return a redis-py pool that holds the parsed URL; no connection is ever taken from it."""
    try:
        source: Any = redis.ConnectionPool.from_url(address.url)
        options = source.connection_kwargs
        options.update(
            decode_responses=True,
            health_check_interval=_HEALTH_CHECK_SECONDS,
            protocol=2,
            driver_info=_driver_info(),
            **_timeout_options(timeout),
        )
        if issubclass(source.connection_class, redis.SSLConnection) and not _FLAGS & options.keys():
            # Accept CA certificates without key identifiers, as Python did before 3.13: they are common in
            # clusters.
            options["ssl_exclude_verify_flags"] = [ssl.VERIFY_X509_STRICT]
        _connection(source)  # opens nothing, but raises an error for options that redis-py does not know
    except (ValueError, TypeError, redis.RedisError):
        # Without the cause: redis-py quotes the URL in its error, and with it parts of the password.
        raise _malformed() from None
    return source


def _connection(source: Any) -> RawConnection:
    """Return a connection with the options of a redis-py pool, which does not count it.

    The method of the pool makes 100 in all, and takes none back that was not borrowed.
    """
    raw: RawConnection = source.connection_class(**source.connection_kwargs)
    return raw


@cache
def _driver_info() -> DriverInfo:
    """Return the name and version that connections report to Redis.

    Without it, redis-py reads the metadata of its package for each connection, which takes a millisecond.
    """
    return DriverInfo()


def _timeout_options(timeout: float) -> dict[str, Any]:
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # `node.py` knows whether a call may be repeated, redis-py does not.
        "retry": Retry(NoBackoff(), 0),
    }


def _host(name: str, default_port: int) -> HostPort:
    parts = urlsplit(f"//{name}")
    if not parts.hostname:
        raise ValueError("a host has a name")
    return parts.hostname, parts.port or default_port


def _require_files(options: Mapping[str, str]) -> None:
    for name in _FILES:
        if name in options and not Path(options[name]).is_file():
            raise ConfigurationError(f"store: {name} names no file: {options[name]}")


def _malformed() -> ConfigurationError:
    return ConfigurationError(
        "store: is not a Redis URL such as redis://host:6379/0, redis+sentinel://host:26379/<service>/0 "
        "or redis+cluster://host:6379"
    )
