"""A fixture with the OAuth endpoints, new for each test."""

from collections.abc import Iterator

import pytest

from tests.unit.http_api.oauth_site import Site, running


@pytest.fixture
def site() -> Iterator[Site]:
    with running() as site:
        yield site
