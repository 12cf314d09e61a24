"""The service that the examples use, with TLS, and the environment that their pages ask a reader to set."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from identity_client.testing import ServiceUnderTest, service_process

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def identity() -> Iterator[ServiceUnderTest]:
    with service_process(tls=True) as service:
        yield service


def environment(identity: ServiceUnderTest, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program that finds the service, with these additional variables."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("IDENTITY_")}
    return {**outside, **identity.environment(), **variables}
