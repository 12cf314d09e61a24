"""A service closes all parts that it has opened, when it stops or fails to start, despite errors."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from operator import attrgetter
from pathlib import Path

import pytest

from identity_service import bootstrap
from identity_service.adapters.clock import SystemClock
from identity_service.bootstrap import Service
from identity_service.composition.opening import open_store
from identity_service.composition.store_admin import open_store_admin
from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.errors import ConfigurationError, StoreUnavailableError
from tests.patience import PATIENCE, until
from tests.ports import reserve_port
from tests.rpc.conftest import settings_for_tests

THREADS = {"audit", "follow", "heartbeat", "maintenance", "keys", "principals", "health"}
"""The threads of every service with a principals file; the gRPC server has more."""


class Site:
    """A service with metrics and a principals file, on a store of its own."""

    def __init__(self, folder: Path) -> None:
        self._metrics = ("127.0.0.1", reserve_port())
        self.principals = folder / "principals.yaml"
        self.principals.write_text("clients: {a: }")
        self.settings = settings = settings_for_tests(
            store=f"sqlite:///{folder}/identity.db",
            metrics_listen="{}:{}".format(*self._metrics),
            principals_file=self.principals,
        )
        with open_store_admin(settings) as store_admin:
            store_admin.initialise()
        self._others = set(threading.enumerate())
        self.store = open_store(settings, SystemClock())
        self.service = Service(settings, store=self.store)

    @property
    def threads(self) -> set[str]:
        """Return the names of the service's threads."""
        threads = set(threading.enumerate()) - self._others
        return {thread.name.removeprefix("identity-") for thread in threads if "identity-" in thread.name}

    @property
    def shows_metrics(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(self._metrics) == 0

    @property
    def has_store(self) -> bool:
        try:
            self.store.log.head()
        except StoreUnavailableError:
            return False
        return True

    def await_end(self) -> None:
        """Wait until no thread, port or file of the service is left."""
        until(lambda: not (self.shows_metrics or self.has_store or self.threads))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.service.stop()


@pytest.mark.parametrize(
    ("issuer", "dev", "why"),
    [
        ("identity-service", True, "must be the https URL"),
        ("https://Identity.example", False, "write https://identity.example"),
        ("http://127.0.0.1:8080", False, "with --dev only"),
    ],
)
def test_a_service_with_http_refuses_an_issuer_by_which_no_client_finds_it(
    tmp_path: Path, issuer: str, dev: bool, why: str
) -> None:
    file = tmp_path / "identity.db"
    settings = settings_for_tests(store=f"sqlite:///{file}", http_listen="127.0.0.1:0", issuer=issuer)

    with pytest.raises(ConfigurationError, match=f"^issuer: .*{why}"):
        Service(settings, dev=dev)

    assert not file.exists(), "it refuses before it opens anything"


@pytest.mark.parametrize(
    ("changes", "dev"),
    [
        ({"issuer": "https://identity.example", "http_listen": "127.0.0.1:0"}, False),
        ({"issuer": "http://127.0.0.1:8080", "http_listen": "127.0.0.1:0"}, True),
        ({"issuer": "any name"}, False),
    ],
)
def test_a_service_accepts_an_issuer_by_which_clients_find_it_or_any_without_http(
    tmp_path: Path, changes: dict[str, str], dev: bool
) -> None:
    settings = settings_for_tests(store=f"sqlite:///{tmp_path}/identity.db", **changes)

    Service(settings, dev=dev).stop()


def test_a_service_that_stops_leaves_nothing_open(site: Site) -> None:
    site.service.start()
    assert site.threads >= THREADS
    assert site.has_store
    assert site.shows_metrics

    assert site.service.stop(), "no call was cut off"

    site.await_end()


def test_the_last_audit_events_are_stored_before_the_store_is_closed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "_JOIN_TIMEOUT", PATIENCE)
    site.service.start()
    site.service._use.trail.record(AuditEvent.of(AuditType.REFRESH_TOKEN_REUSED))

    site.service.stop()

    with closing(open_store(site.settings, SystemClock())) as store:
        assert store.audit.read_after(None, 1)[0].event.type is AuditType.REFRESH_TOKEN_REUSED


def test_the_last_heartbeat_of_a_service_that_stops_says_that_it_has_ended(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "_JOIN_TIMEOUT", PATIENCE)
    site.service.start()
    assert [heartbeat.status for heartbeat in site.store.log.heartbeats()] != [bootstrap.ENDED]

    site.service.stop()

    with closing(open_store(site.settings, SystemClock())) as store:
        assert [heartbeat.status for heartbeat in store.log.heartbeats()] == [bootstrap.ENDED]


def test_a_service_that_does_not_start_leaves_nothing_open(site: Site) -> None:
    site.principals.write_text("clients: {a b: }")

    with pytest.raises(ConfigurationError, match=r"principals\.yaml"):
        site.service.start()

    site.await_end()


def test_a_service_that_was_never_started_closes_its_store(site: Site) -> None:
    site.service.stop()

    site.await_end()


@pytest.mark.parametrize(
    ("owner", "method"), [("service._apis.server", "stop"), ("store._database", "close")]
)
def test_a_part_that_fails_to_close_keeps_no_other_open(
    site: Site, owner: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = attrgetter(owner)(site)
    close = getattr(part, method)

    def fail(*args: object) -> None:
        close(*args)
        raise OSError("it could not be closed")

    site.service.start()
    with monkeypatch.context() as patched:
        patched.setattr(part, method, fail)
        with pytest.raises(OSError, match="could not be closed"):
            site.service.stop()

    site.await_end()
