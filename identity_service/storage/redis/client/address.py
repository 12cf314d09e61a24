"""Where Redis is: the store's URL taken apart, and what makes connections from it.

    redis://user:password@host:6379/0              one server
    redis+sentinel://…@host:26379,host:26379/<service>/0   whoever the Sentinels say is the primary
    redis+cluster://…@host:6379,host:6379          a cluster, found from any of these

`rediss` instead of `redis` is TLS. Options in the query are those of redis-py (`ssl_ca_certs`,
`ssl_certfile`, `ssl_keyfile`, …); `sentinel_username` and `sentinel_password` are for the Sentinels.
Knows nothing of what is sent. Never puts a URL into an error: it holds the password.
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
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from identity_service.domain.errors import ConfigurationError
from identity_service.storage.redis.client.pool import RawConnection

_HEALTH_CHECK_SECONDS: Final = 15
_SENTINEL_PORT: Final = 26379
_PORT: Final = 6379
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TRIED_TIMEOUT: Final = 1.0
_KINDS: Final[Mapping[str, Literal["single", "sentinel", "cluster"]]] = {
    "": "single",
    "sentinel": "sentinel",
    "cluster": "cluster",
}

HostPort = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A store's URL, taken apart."""

    kind: Literal["single", "sentinel", "cluster"]
    hosts: Sequence[HostPort]
    service: str = ""
    """What the Sentinels call the primary."""
    url: str = field(repr=False)
    """The same for one server, as redis-py reads it."""
    sentinel_options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """User and password for the Sentinels."""


def parse(url: str) -> Address:
    """Raises ConfigurationError for what is no such URL."""
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


def maker(address: Address) -> Callable[[float], RawConnection]:
    """What makes a connection whose answers may take so many seconds: to the server, or to the primary.

    Raises ConfigurationError for options that the library does not know.
    """
    if address.kind != "sentinel":
        return node_maker(address, None)
    return _from(lambda timeout: _sentinel_pool(address, timeout))


def node_maker(address: Address, host: HostPort | None) -> Callable[[float], RawConnection]:
    """The same for one server; `host` where it is another than that of the URL."""

    def source(timeout: float) -> Any:
        pool = _pool(address, timeout)
        if host is not None:
            pool.connection_kwargs.update(host=host[0], port=host[1])
        return pool

    return _from(source)


def _from(source: Callable[[float], Any]) -> Callable[[float], RawConnection]:
    """Make connections as their pools do, which lend none out; one pool for each timeout."""
    sources = cache(source)

    def make(timeout: float) -> RawConnection:
        raw: RawConnection = sources(timeout).make_connection()
        return raw

    make(_TRIED_TIMEOUT)  # opens nothing, but objects to options that it does not know
    return make


def _sentinel_pool(address: Address, timeout: float) -> Any:
    model = _pool(address, timeout)
    # What their pools add for themselves is not for another pool.
    own = ("host", "port", "himport_registry", "maint_", "orig_")
    options = {name: value for name, value in model.connection_kwargs.items() if not name.startswith(own)}
    secure = issubclass(model.connection_class, redis.SSLConnection)
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")} if secure else {}
    # A silent Sentinel must not use up the time in which the next one could have answered.
    share = timeout / (len(address.hosts) + 1)
    sentinels: Any = Sentinel(  # type: ignore[no-untyped-call]
        list(address.hosts),
        sentinel_kwargs={**address.sentinel_options, **tls, "ssl": secure, **_patience(share)},
    )
    return SentinelConnectionPool(address.service, sentinels, ssl=secure, **options)  # type: ignore[no-untyped-call]


def _pool(address: Address, timeout: float) -> Any:
    """A pool of theirs: it only reads the URL, none of its connections is ever lent out."""
    try:
        source: Any = redis.ConnectionPool.from_url(address.url)
        source.connection_kwargs.update(
            decode_responses=True,
            health_check_interval=_HEALTH_CHECK_SECONDS,
            protocol=2,
            **_patience(timeout),
        )
        if issubclass(source.connection_class, redis.SSLConnection):
            _believe_as_before_python_313(source.connection_kwargs)
        source.make_connection()  # opens nothing, but objects to options that it does not know
    except (ValueError, TypeError, redis.RedisError):
        # Without its cause: the library quotes the URL, and with it parts of the password.
        raise _malformed() from None
    return source


def _believe_as_before_python_313(options: dict[str, Any]) -> None:
    """Accept authorities without key identifiers, as are common in clusters, unless the URL decides."""
    if not {"ssl_include_verify_flags", "ssl_exclude_verify_flags"} & options.keys():
        options["ssl_exclude_verify_flags"] = [ssl.VERIFY_X509_STRICT]


def _patience(timeout: float) -> dict[str, Any]:
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # Whether a call may be repeated is known elsewhere, not in the library.
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
        "store: is no Redis URL such as redis://host:6379/0, redis+sentinel://host:26379/<service>/0 "
        "or redis+cluster://host:6379"
    )
