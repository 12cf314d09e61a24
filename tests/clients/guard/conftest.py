"""One identity service for all tests of a module, and a service that a guard protects."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from identity_client import IdentityClient, LocalVerifier
from identity_client.grpc import Guard, Policy, public
from identity_client.grpc.aio import Guard as AioGuard
from identity_client.policy import Access, OnStale
from tests.clients.guard import reports as services
from tests.clients.guard.reports import Client, name
from tests.clients.guard.site import ADMIN, AUDIENCE, READ, Site, running_site

_READING = ("Get", "Total", "Follow", "Chat", "Blocked", "Stubborn", "Slow", "Written", "Endless")
ENTRIES: dict[str, Access] = {
    **{name(method): [READ] for method in _READING},
    name("Delete"): [],
    name("Hours"): public(),
    "/other.v1.Other/*": [ADMIN],
}

Start = Callable[..., AbstractContextManager[Client]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("guarded")) as site:
        yield site


@pytest.fixture(scope="module")
def verifier(site: Site) -> Iterator[LocalVerifier]:
    with site.verifier() as verifier:
        yield verifier


@pytest.fixture(params=["threads", "asyncio"])
def start(request: pytest.FixtureRequest) -> Start:
    """The function that starts the protected service, for each kind of server."""
    kinds: dict[str, Any] = {"threads": (services.threaded, Guard), "asyncio": (services.in_loop, AioGuard)}
    serve, guard = kinds[request.param]

    def start(
        verifier: Any, policy: Any = None, *, credentials: Any = None, **options: Any
    ) -> AbstractContextManager[Client]:
        chosen = Policy(AUDIENCE, ENTRIES) if policy is None else policy
        found: AbstractContextManager[Client] = serve(lambda: guard(verifier, chosen, **options), credentials)
        return found

    return start


@pytest.fixture
def client(start: Start, verifier: LocalVerifier) -> Iterator[Client]:
    with start(verifier) as client:
        yield client


@pytest.fixture
def own(site: Site) -> Iterator[LocalVerifier]:
    """A verifier that only this test uses, and may make stale."""
    with site.verifier() as verifier:
        yield verifier


@pytest.fixture
def asking(site: Site) -> Iterator[IdentityClient]:
    with IdentityClient(site.world.target, options=site.options("identity.verify")) as client:
        yield client


def stale_policy(on_stale: OnStale) -> Policy:
    return Policy(AUDIENCE, ENTRIES, on_stale=on_stale)
