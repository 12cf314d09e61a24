"""A service that is stopped while HTTP requests are in progress."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from identity_service.services.issue import TokenIssuer
from tests.http.conftest import StartSite
from tests.http.site import Answer, Site
from tests.patience import PATIENCE, until

LONG = timedelta(seconds=PATIENCE)


class SlowIssuer:
    """Makes the service wait in the middle of issuing a token until the test sets `may_end`."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.may_end = threading.Event(), threading.Event()
        issue = site.world.service._use.issuer.issue

        def wait(_: TokenIssuer, *values: Any, **named: Any) -> Any:
            self.entered.set()
            self.may_end.wait(PATIENCE)
            return issue(*values, **named)

        monkeypatch.setattr(TokenIssuer, "issue", wait)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def asked(site: Site, threads: ThreadPoolExecutor) -> "Future[Answer]":
    """Request a token in another thread; return the future of the answer."""
    secret = site.world.new_client().credential.client_secret
    body = f"grant_type=client_credentials&client_id={secret.client_id}&client_secret={secret.client_secret}"
    return threads.submit(site.post, "/oauth2/token", body)


def is_refused(site: Site) -> bool:
    try:
        site.get("/livez")
    except OSError:
        return True
    return False


def test_a_request_in_progress_is_answered_and_no_further_connection_is_accepted(
    start: StartSite, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = start()
    slow = SlowIssuer(site, monkeypatch)
    answer = asked(site, threads)
    slow.entered.wait(PATIENCE)

    stopped = threads.submit(site.world.service.stop, LONG)
    until(lambda: is_refused(site))
    assert not stopped.done()
    slow.may_end.set()

    assert answer.result().status == 200
    assert answer.result().headers["connection"] == "close"
    assert stopped.result()


def test_a_request_that_takes_longer_than_the_grace_is_cut_off(
    start: StartSite, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = start()
    slow = SlowIssuer(site, monkeypatch)
    answer = asked(site, threads)
    slow.entered.wait(PATIENCE)

    assert not site.world.service.stop(timedelta(0))

    assert isinstance(answer.exception(PATIENCE), OSError)
    slow.may_end.set()


def test_a_connection_without_a_request_does_not_hold_up_the_stop(start: StartSite) -> None:
    site = start()
    connection = site.connect()
    connection.request("GET", "/livez")
    connection.getresponse().read()

    assert site.world.service.stop(LONG)

    assert connection.sock.recv(1) == b""
    connection.close()
