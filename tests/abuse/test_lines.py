"""Tests of attacks that once blocked the service: meanwhile it must answer every other client.

Each abuse comes from an address of its own, without a credential. Each test stands for a line of the table in
docs/security.md.
"""

import pytest

from tests.abuse.abuser import abusing
from tests.abuse.conftest import StartSite
from tests.abuse.site import Site
from tests.patience import until

MB = 2**20


def assert_others_are_answered(site: Site, abuse: str, count: int = 0) -> None:
    """Assert that the honest client's calls succeed during the abuse and after it."""
    with abusing(abuse, site.target, count=count):
        assert site.bystander.failures() == {}
    assert site.bystander.failures() == {}


@pytest.mark.parametrize("count", [32, 1_000])
def test_open_reflection_streams_delay_no_other_client(shared: Site, count: int) -> None:
    assert_others_are_answered(shared, "reflection", count)


@pytest.mark.parametrize("count", [1, 4, 200])
def test_watches_of_health_that_are_not_read_delay_no_other_client(shared: Site, count: int) -> None:
    assert_others_are_answered(shared, "health-watch", count)


def test_sigterm_ends_the_service_while_watches_of_health_are_not_read(start_site: StartSite) -> None:
    site = start_site()

    with abusing("health-watch", site.target):
        site.terminate()


@pytest.mark.parametrize("abuse", ["headers-verify", "headers-issue", "headers"])
def test_calls_without_a_message_delay_no_other_client(shared: Site, abuse: str) -> None:
    assert_others_are_answered(shared, abuse)


def test_sigterm_ends_the_service_while_calls_wait_for_their_message(start_site: StartSite) -> None:
    site = start_site()

    with abusing("headers", site.target):
        site.terminate()


def test_unfinished_bodies_delay_no_other_client(shared: Site) -> None:
    assert_others_are_answered(shared, "bodies")


def test_the_memory_of_unfinished_bodies_is_returned_while_their_connections_stay(
    start_site: StartSite,
) -> None:
    """The service must end calls with unfinished bodies after `request_timeout`; they take 24 x 16 MiB."""
    site = start_site(request_timeout="2s")
    before = site.resident_bytes

    with abusing("bodies-once", site.target):
        until(lambda: site.resident_bytes < before + 64 * MB)


def test_the_memory_of_unfinished_bodies_is_returned_once_their_client_has_left(
    start_site: StartSite,
) -> None:
    site = start_site()
    before = site.resident_bytes

    with abusing("bodies-once", site.target):
        pass

    until(lambda: site.resident_bytes < before + 64 * MB)


def test_streams_that_are_reset_at_once_delay_no_other_client(shared: Site) -> None:
    assert_others_are_answered(shared, "resets")


def test_watches_that_are_not_read_delay_no_other_client(shared: Site) -> None:
    assert_others_are_answered(shared, "watch")


def test_watches_that_are_not_read_take_no_threads(start_site: StartSite) -> None:
    """The service's pools may start up to 36 threads meanwhile, so the test allows 64, not 0."""
    site = start_site()
    before = site.threads

    with abusing("watch", site.target):
        assert site.bystander.failures() == {}
        assert site.threads <= before + 64
    assert site.bystander.failures() == {}
    assert site.threads <= before + 64
