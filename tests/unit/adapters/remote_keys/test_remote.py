"""The keys of an issuer with a `jwks_uri`, on a real server: rotation, outages, many callers, slowness."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from identity_service.adapters.remote_keys.documents import KeyDocument
from identity_service.adapters.remote_keys.fetching import HttpsFetcher
from identity_service.adapters.remote_keys.holder import HeldIssuerKeys
from identity_service.adapters.remote_keys.remote import RefreshPolicy
from identity_service.adapters.remote_keys.servers import KeyServers
from identity_service.domain.errors import IssuerUnreachableError
from identity_service.domain.issuers import TrustedIssuer
from tests.fakes.event_logs import RecordingEventLog
from tests.issuer_server import IssuerServer
from tests.jwts import PartyKey
from tests.patience import PATIENCE, until
from tests.rpc.clocks import ShiftedClock

OLD, NEW = PartyKey.make("ES256", "old"), PartyKey.make("ES256", "new")
QUICK = RefreshPolicy(floor=timedelta(milliseconds=50), patience=timedelta(seconds=5))
"""Intervals that are short, so that tests need not wait for the minimum time between two requests."""
USUAL = RefreshPolicy()


class Site:
    """Issuers, each with an HTTP server, and the object under test, which fetches their keys."""

    def __init__(self, stack: ExitStack) -> None:
        self.clock, self.event_log = ShiftedClock(), RecordingEventLog()
        self._stack = stack

    def server(self, *keys: PartyKey) -> IssuerServer:
        server = self._stack.enter_context(IssuerServer())
        server.publish(*keys)
        return server

    def hold(
        self, *servers: IssuerServer, policy: RefreshPolicy = QUICK, waiting: int = 8
    ) -> tuple[HeldIssuerKeys, list[TrustedIssuer]]:
        fetch = HttpsFetcher(KeyServers(), max_bytes=64 * 1024)
        held = HeldIssuerKeys(fetch, self.clock, self.event_log, waiting=waiting, policy=policy)
        self._stack.callback(held.close)
        issuers = [TrustedIssuer(issuer=server.url, jwks_uri=server.url) for server in servers]
        held.follow(issuers)
        return held, issuers


@pytest.fixture
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(stack)


def test_keys_are_fetched_before_the_first_lookup(site: Site) -> None:
    server = site.server(OLD)
    held, (issuer,) = site.hold(server, policy=USUAL)
    until(lambda: len(site.event_log.named("issuer_keys_read")) == 1)

    for _ in range(100):
        found = held.find(issuer, "old")
        assert found is not None
        assert found.key_id == "old"
    assert len(server.requests) == 1


def test_a_key_that_was_rotated_in_is_found(site: Site) -> None:
    server = site.server(OLD)
    held, (issuer,) = site.hold(server)
    assert held.find(issuer, "old") is not None

    server.publish(NEW)
    until(lambda: held.find(issuer, "new") is not None)

    assert held.find(issuer, "old") is None


def test_invented_key_ids_do_not_hammer_the_issuer(site: Site) -> None:
    server = site.server(OLD)
    held, (issuer,) = site.hold(server, policy=USUAL)
    assert held.find(issuer, "old") is not None

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda number: held.find(issuer, f"invented-{number}"), range(500)))
    assert found == [None] * 500
    assert len(server.requests) == 1

    site.clock.age(11)  # past the floor, of which each lets one request through
    assert held.find(issuer, "invented") is None
    assert held.find(issuer, "invented, too") is None
    assert len(server.requests) == 2


def test_callers_at_once_share_one_request(site: Site) -> None:
    server = site.server(OLD)
    server.open.clear()
    held, (issuer,) = site.hold(server, policy=USUAL, waiting=64)

    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(held.find, issuer, "old") for _ in range(16)]
        until(lambda: len(server.requests) == 1)
        server.open.set()
        keys = [each.result() for each in asked]

    assert all(key is not None for key in keys)
    assert len(server.requests) == 1


def test_an_issuer_that_was_never_reached_is_unreachable_and_not_refused(site: Site) -> None:
    server = site.server(OLD)
    server.stop()
    held, (issuer,) = site.hold(server)
    with pytest.raises(IssuerUnreachableError, match="try again"):
        held.find(issuer, "old")

    server.start()

    def back() -> bool:
        try:
            return held.find(issuer, "old") is not None
        except IssuerUnreachableError:
            return False

    until(back)
    assert "cannot be reached" in site.event_log.named("issuer_keys_failed")[0]["why"]


def answer(**values: Any) -> Callable[[IssuerServer], None]:
    def spoil(server: IssuerServer) -> None:
        for name, value in values.items():
            setattr(server, name, value)

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        answer(status=503),
        answer(body=b"<html>"),
        answer(body=b" " * 70_000),
        answer(body=b'{"keys": null}'),
        IssuerServer.stop,
    ],
    ids=["unwell", "garbage", "too long", "no list of keys", "away"],
)
def test_the_last_good_keys_stay_while_new_ones_cannot_be_fetched(
    site: Site, spoil: Callable[[IssuerServer], None]
) -> None:
    server = site.server(OLD)
    held, (issuer,) = site.hold(server)
    assert held.find(issuer, "old") is not None

    spoil(server)
    site.clock.age(3600)
    assert held.find(issuer, "old") is not None
    until(lambda: len(site.event_log.named("issuer_keys_failed")) > 0)

    assert held.find(issuer, "old") is not None
    with pytest.raises(IssuerUnreachableError):
        held.find(issuer, "new")  # the key may exist: it is unknown while the issuer cannot be reached
    site.clock.age(25 * 3600)
    with pytest.raises(IssuerUnreachableError):
        held.find(issuer, "old")


def test_a_set_that_was_emptied_withdraws_its_keys(site: Site) -> None:
    server = site.server(OLD)
    held, (issuer,) = site.hold(server)
    assert held.find(issuer, "old") is not None

    server.publish()
    site.clock.age(3600)
    until(lambda: held.find(issuer, "old") is None)


@pytest.mark.parametrize(
    ("said", "kept", "fetched_again"),
    [("", 890, 910), ("max-age=1", 290, 310), ("no-store", 290, 310), ("max-age=99999999", 86390, 86410)],
)
def test_keys_are_fetched_again_by_age_within_bounds(
    site: Site, said: str, kept: int, fetched_again: int
) -> None:
    server = site.server(OLD)
    server.headers = {"Cache-Control": said}
    held, (issuer,) = site.hold(server, policy=USUAL)
    assert held.find(issuer, "old") is not None
    server.publish(NEW)

    site.clock.age(kept)
    assert held.find(issuer, "old") is not None
    assert len(server.requests) == 1

    site.clock.age(fetched_again - kept)
    assert held.find(issuer, "new") is not None
    assert len(server.requests) == 2


def test_a_refresh_by_age_needs_no_lookup(site: Site) -> None:
    server = site.server(OLD)
    tenth = timedelta(milliseconds=100)
    site.hold(server, policy=RefreshPolicy(floor=tenth / 10, age=tenth, least_age=tenth))

    until(lambda: len(server.requests) >= 3)


def test_a_slow_issuer_delays_no_lookup_at_another_issuer(site: Site) -> None:
    slow, quick = site.server(OLD), site.server(NEW)
    slow.open.clear()
    held, (slow_one, quick_one) = site.hold(slow, quick, policy=USUAL, waiting=8)
    until(lambda: len(slow.requests) == 1)

    with ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(held.find, slow_one, "old") for _ in range(16)]
        until(lambda: sum(each.done() for each in waiting) == 12)
        refused = [each for each in waiting if each.done()]
        assert held.find(quick_one, "new") is not None
        slow.open.set()

        assert all(isinstance(each.exception(), IssuerUnreachableError) for each in refused)
        assert all(each.result() is not None for each in waiting if each not in refused)


def test_no_caller_waits_longer_than_its_patience(site: Site) -> None:
    slow = site.server(OLD)
    slow.open.clear()
    policy = RefreshPolicy(patience=timedelta(milliseconds=50))
    held, (issuer,) = site.hold(slow, policy=policy)

    with pytest.raises(IssuerUnreachableError):
        held.find(issuer, "old")


def test_an_answer_that_cannot_be_used_at_all_ends_no_later_attempt(site: Site) -> None:
    answers: list[KeyDocument | RuntimeError] = [RuntimeError("a bug"), KeyDocument(body=b'{"keys": []}')]
    asked = threading.Event()

    def fetch(_: str) -> KeyDocument:
        answer = answers.pop(0)
        if isinstance(answer, RuntimeError):
            raise answer
        asked.set()
        return answer

    held = HeldIssuerKeys(fetch, site.clock, site.event_log, waiting=8, policy=QUICK)
    held.follow([TrustedIssuer(issuer="x", jwks_uri="https://x.example")])

    assert asked.wait(PATIENCE)
    held.close()
    assert site.event_log.named("issuer_keys_failed")[0]["why"].endswith("RuntimeError")


def test_an_issuer_that_is_trusted_no_more_is_asked_no_more(site: Site) -> None:
    before = {*threading.enumerate()}  # among them those of other tests that are about to end
    server = site.server(OLD)
    held, (issuer,) = site.hold(server)
    assert held.find(issuer, "old") is not None
    (thread,) = (each for each in {*threading.enumerate()} - before if each.name == "identity-issuer")

    held.follow([])

    thread.join(PATIENCE)
    assert not thread.is_alive()
    with pytest.raises(IssuerUnreachableError):
        held.find(issuer, "old")


def test_a_record_whose_other_fields_change_fetches_nothing(site: Site) -> None:
    server = site.server(OLD)
    held, (issuer,) = site.hold(server)
    assert held.find(issuer, "old") is not None

    changed = TrustedIssuer(issuer=issuer.issuer, jwks_uri=issuer.jwks_uri, single_use=True)
    held.follow([changed])

    assert held.find(changed, "old") is not None
    assert len(server.requests) == 1
