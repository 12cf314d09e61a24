"""Connections to Redis over TLS: the authorities whose certificates they accept."""

import ssl
from typing import Any

import pytest

from identity_service.storage.redis.client.address import maker, parse

URLS = {
    "one server": "rediss://127.0.0.1:6379/0",
    "Sentinel": "rediss+sentinel://127.0.0.1:26379/main/0",
    "cluster": "rediss+cluster://127.0.0.1:6379",
}


def excluded(url: str) -> Any:
    """The flags that are taken away from the defaults of this Python."""
    raw: Any = maker(parse(url))(1.0)
    return raw.ssl_exclude_verify_flags


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_authorities_that_the_defaults_of_python_313_refuse_are_accepted(url: str) -> None:
    """Those without key identifiers: see tests/platforms/authorities.py."""
    assert excluded(url) == [ssl.VERIFY_X509_STRICT]


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_the_url_may_decide_otherwise(url: str) -> None:
    assert excluded(f"{url}?ssl_include_verify_flags=VERIFY_X509_STRICT") is None
    flags = excluded(f"{url}?ssl_exclude_verify_flags=VERIFY_X509_PARTIAL_CHAIN")
    assert flags == [ssl.VERIFY_X509_PARTIAL_CHAIN]
