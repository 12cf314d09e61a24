"""The factories of connections to Redis: they make any number, and accept the same authorities everywhere."""

import ssl
from typing import Any

import pytest

from identity_service.storage.redis.client.address import maker, parse

URLS = {
    "one server": "rediss://127.0.0.1:6379/0",
    "Sentinel": "rediss+sentinel://127.0.0.1:26379/main/0",
    "cluster": "rediss+cluster://127.0.0.1:6379",
}


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_a_factory_makes_as_many_connections_as_a_process_needs_in_its_life(url: str) -> None:
    """The pools of redis-py count every connection they have ever made, and stop at 100."""
    make = maker(parse(url))

    assert all(make(1.0) is not make(1.0) for _ in range(150))


def excluded(url: str) -> Any:
    """Return the default verification flags of this Python that a connection to this URL does not have."""
    raw: Any = maker(parse(url))(1.0)
    return raw.ssl_exclude_verify_flags


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_authorities_that_the_defaults_of_python_313_refuse_are_accepted(url: str) -> None:
    """Such authorities have no key identifiers: see tests/platforms/authorities.py."""
    assert excluded(url) == [ssl.VERIFY_X509_STRICT]


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_the_url_may_decide_otherwise(url: str) -> None:
    assert excluded(f"{url}?ssl_include_verify_flags=VERIFY_X509_STRICT") is None
    flags = excluded(f"{url}?ssl_exclude_verify_flags=VERIFY_X509_PARTIAL_CHAIN")
    assert flags == [ssl.VERIFY_X509_PARTIAL_CHAIN]
