"""The number of round trips to Redis that a Refresh takes, since each costs latency and CPU time."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from identity_service.domain.ids import PrincipalId
from identity_service.domain.secret import Secret
from identity_service.domain.store import Store
from identity_service.services.authenticate import ClientSecret, Password
from identity_service.services.issue import IssueRequest
from identity_service.services.refresh import RefreshRequest
from identity_service.services.token_maker import TokenSet
from tests.conformance.backends import RedisBackend
from tests.fakes.clocks import FakeClock
from tests.redis_server import RedisServer
from tests.service_site import PASSWORD, ServiceSite, open_service_site

PORTAL = PrincipalId("portal")


class RoundTrips:
    """Counts the round trips of this process to Redis: commands that are sent together count as one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._sent = 0
        send: Callable[..., None] = redis.Connection.send_packed_command

        def count(connection: redis.Connection, *args: Any, **kwargs: Any) -> None:
            self._sent += 1
            send(connection, *args, **kwargs)

        monkeypatch.setattr(redis.Connection, "send_packed_command", count)

    def of(self, call: Callable[[], object]) -> int:
        """Return the number of round trips that a call takes."""
        before = self._sent
        call()
        return self._sent - before


@pytest.fixture
def site(redis_server: RedisServer) -> Iterator[ServiceSite]:
    """The use cases on Redis, without the threads of a service, whose round trips would be counted."""
    backend = RedisBackend(redis_server)

    def open_store(clock: FakeClock) -> Store:
        backend.clock = clock
        return backend.open()

    with open_service_site(open_store) as site:
        site.new_user()
        yield site


def sign_in(site: ServiceSite) -> TokenSet:
    secret = site.secrets["portal"]
    credential = Password(
        username="ana",
        password=Secret(PASSWORD),
        client_id=PORTAL,
        client_secret=Secret(secret) if secret else None,
    )
    return site.use.issuer.issue(IssueRequest(credential=credential))


def refresh(site: ServiceSite, tokens: TokenSet, **changes: Any) -> TokenSet:
    secret = site.secrets["portal"]
    values: dict[str, Any] = {
        "refresh_token": Secret(tokens.refresh_token or ""),
        "client": ClientSecret(client_id=PORTAL, secret=Secret(secret)) if secret else None,
        "client_id": PORTAL,
    }
    return site.use.refresher.refresh(RefreshRequest(**(values | changes)))


@pytest.mark.parametrize("public", [False, True], ids=["confidential", "public"])
def test_a_refresh_and_its_repetition_take_one_round_trip_each(
    site: ServiceSite, monkeypatch: pytest.MonkeyPatch, public: bool
) -> None:
    site.new_app("portal", public=public)
    tokens = refresh(site, sign_in(site))  # once before: the scripts are loaded, and the client is known
    trips, answers = RoundTrips(monkeypatch), list[TokenSet]()

    for _ in range(2):
        assert trips.of(lambda: answers.append(refresh(site, tokens))) == 1

    first, repeated = answers
    assert first.refresh_token == repeated.refresh_token != tokens.refresh_token
    assert [event["number"] for event in site.audited("session_refreshed")] == ["1", "2"]


def test_a_refresh_with_fewer_scopes_takes_two(site: ServiceSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first round trip reads the session to check its scopes, and a second one rotates the session."""
    site.new_app("portal")
    tokens = refresh(site, sign_in(site), scopes=("read",))
    trips = RoundTrips(monkeypatch)

    assert trips.of(lambda: refresh(site, tokens, scopes=("read",))) == 2
