"""Fetching the keys of an issuer while the operating system gives the process no new thread."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from identity_service.adapters.remote_keys.documents import FetchError, KeyDocument
from identity_service.adapters.remote_keys.fetching import HttpsFetcher
from identity_service.adapters.remote_keys.holder import HeldIssuerKeys
from identity_service.adapters.remote_keys.remote import RefreshPolicy
from identity_service.adapters.remote_keys.servers import KeyServers
from identity_service.domain.errors import IssuerUnreachableError
from identity_service.domain.issuers import TrustedIssuer
from tests.fakes.clocks import FakeClock
from tests.fakes.event_logs import RecordingEventLog

ISSUER = TrustedIssuer(issuer="https://issuer.example", jwks_uri="https://issuer.example/keys")
POLICY = RefreshPolicy()


class Threads:
    """The operating system's supply of threads: starting one for an issuer fails until `given` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given = False
        self.asked = 0
        start = threading.Thread.start

        def start_one(thread: threading.Thread) -> None:
            if thread.name.startswith("identity-issuer"):
                self.asked += 1
                if not self.given:
                    raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_one)


class Site:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads, self.clock, self.event_log = Threads(monkeypatch), FakeClock(), RecordingEventLog()
        self.held = HeldIssuerKeys(self._fetch, self.clock, self.event_log, waiting=8, policy=POLICY)

    def _fetch(self, url: str) -> KeyDocument:
        return KeyDocument(body=b'{"keys": []}')

    def failures(self) -> list[Any]:
        return [fields["why"] for name, fields in self.event_log.events if name == "issuer_keys_failed"]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    site = Site(monkeypatch)
    yield site
    site.held.close()


def test_an_issuer_is_followed_all_the_same_and_its_keys_cannot_be_read(site: Site) -> None:
    site.held.follow([ISSUER])

    with pytest.raises(IssuerUnreachableError):
        site.held.find(ISSUER, "any")
    (why,) = site.failures()
    assert "ulimit -u" in why


def test_a_thread_is_asked_for_again_with_a_key_but_not_more_often_than_an_issuer_is(site: Site) -> None:
    site.held.follow([ISSUER])
    for _ in range(3):
        with pytest.raises(IssuerUnreachableError):
            site.held.find(ISSUER, "any")
    assert site.threads.asked == 1

    site.clock.advance(POLICY.floor)
    with pytest.raises(IssuerUnreachableError):
        site.held.find(ISSUER, "any")
    assert site.threads.asked == 2

    site.clock.advance(POLICY.floor)
    site.threads.given = True
    assert site.held.find(ISSUER, "any") is None  # its set was read, and has no such key
    assert site.threads.asked == 3


def test_a_fetch_reports_that_no_thread_is_left_for_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    with pytest.raises(FetchError, match="ulimit -u"):
        HttpsFetcher(KeyServers(), max_bytes=1000)("https://issuer.example/keys")
