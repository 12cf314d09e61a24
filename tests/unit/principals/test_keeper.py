"""The keeper applies the principals file at start and after each change; an invalid file changes nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from identity_service.domain.errors import ConfigurationError, StoreUnavailableError
from identity_service.domain.issuers import IssuerNames
from identity_service.domain.secret import Secret
from identity_service.jose.public_keys import StrictKeyChecker
from identity_service.principals.inside import OwnRecords
from identity_service.principals.keeper import PrincipalsKeeper
from identity_service.principals.plan import Declared, Found
from tests.fakes.event_logs import RecordingEventLog
from tests.unit.principals.site import Site, open_site


class Sometimes(OwnRecords):
    """Records in a store that cannot be reached while `away` is set."""

    away = False

    def find(self, record: Declared) -> Found | None:
        if self.away:
            raise StoreUnavailableError("away")
        return super().find(record)


@pytest.fixture
def site() -> Iterator[Site]:
    with open_site() as site:
        yield site


@pytest.fixture
def records(site: Site) -> Sometimes:
    return Sometimes(site.directory)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "p.yaml"
    file.write_text("clients: {a: }")
    return file


@pytest.fixture
def keeper(file: Path, records: Sometimes, event_log: RecordingEventLog) -> PrincipalsKeeper:
    return PrincipalsKeeper(file, records, StrictKeyChecker(), event_log)


def look_twice(keeper: PrincipalsKeeper) -> None:
    """Look at the file twice: a change is applied once two looks have found the same content."""
    keeper.look()
    keeper.look()


def test_it_applies_the_file(keeper: PrincipalsKeeper, site: Site, event_log: RecordingEventLog) -> None:
    keeper.apply()

    assert "a" in site.clients()
    assert event_log.named("principals_applied")[0]["changes"] == ["create client a"]


@pytest.mark.parametrize("content", [None, "clients: {a b: , c: {x: 1}}"])
def test_it_does_not_start_with_a_file_that_is_wrong(
    keeper: PrincipalsKeeper, file: Path, site: Site, content: str | None
) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_text(content)

    with pytest.raises(ConfigurationError, match=r"p\.yaml"):
        keeper.apply()
    assert site.clients() == ["admin", "first-party"]


def test_it_does_not_start_with_the_services_own_name_as_a_trusted_issuer(
    file: Path, records: Sometimes, event_log: RecordingEventLog
) -> None:
    """The store may have that record already, from a time when `issuer` had another value."""
    text = "trusted_issuers:\n  https://Own.example/:\n    jwks_uri: https://own.example/keys\n"
    file.write_text(f"{text}    rules: [{{claims: {{sub: x}}, client_id: a}}]\n")
    PrincipalsKeeper(file, records, StrictKeyChecker(), event_log)._apply(file.read_bytes())
    keeper = PrincipalsKeeper(
        file, records, StrictKeyChecker(), event_log, own=IssuerNames("https://own.example")
    )

    with pytest.raises(ConfigurationError, match=r"p\.yaml:2: .*this service's own name"):
        keeper.apply()


def test_it_applies_changes_of_the_file(keeper: PrincipalsKeeper, file: Path, site: Site) -> None:
    keeper.apply()
    file.write_text("clients: {b: }")

    look_twice(keeper)

    assert {"a", "b"} <= set(site.clients())


def test_it_follows_a_link_to_another_file(
    tmp_path: Path, records: Sometimes, event_log: RecordingEventLog, site: Site
) -> None:
    """Kubernetes updates a mounted ConfigMap by changing a symbolic link."""
    for version, name in (("1", "a"), ("2", "b")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "p.yaml").write_text(f"clients: {{{name}: }}")
    (tmp_path / "data").symlink_to("1")
    keeper = PrincipalsKeeper(tmp_path / "data" / "p.yaml", records, StrictKeyChecker(), event_log)
    keeper.apply()
    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").rename(tmp_path / "data")

    look_twice(keeper)

    assert "b" in site.clients()


def test_a_wrong_file_changes_nothing_and_is_named_once_until_it_is_right(
    keeper: PrincipalsKeeper, file: Path, site: Site, event_log: RecordingEventLog
) -> None:
    keeper.apply()
    file.write_text("clients: {b: , 'c d': }")
    for _ in range(5):
        keeper.look()
    assert (site.clients(), len(event_log.named("principals_refused"))) == (["a", "admin", "first-party"], 1)
    (refused,) = event_log.named("principals_refused")
    assert str(refused["problems"]).startswith(f"['{file}:1: clients.c d.client_id: must be")

    file.write_text("clients: {b: }")
    look_twice(keeper)
    assert "b" in site.clients()


def test_a_file_that_was_removed_is_named(
    keeper: PrincipalsKeeper, file: Path, site: Site, event_log: RecordingEventLog
) -> None:
    keeper.apply()
    file.unlink()

    look_twice(keeper)

    assert event_log.named("principals_refused")
    assert "a" in site.clients()


def test_a_file_is_applied_once_two_looks_find_the_same(
    keeper: PrincipalsKeeper, file: Path, site: Site
) -> None:
    keeper.apply()
    file.write_text("clients: {b: , c")
    keeper.look()
    file.write_text("clients: {b: , c: }")
    keeper.look()
    assert "c" not in site.clients()
    keeper.look()
    assert {"b", "c"} <= set(site.clients())


def test_it_retries_while_the_store_is_unreachable(
    keeper: PrincipalsKeeper, file: Path, site: Site, records: Sometimes, event_log: RecordingEventLog
) -> None:
    keeper.apply()
    records.away = True
    file.write_text("clients: {b: }")
    for _ in range(3):
        keeper.look()
    assert "b" not in site.clients()
    records.away = False
    keeper.look()
    assert "b" in site.clients()
    assert not event_log.named("principals_refused")


def test_a_secret_that_is_shown_to_no_caller_is_reported_without_its_text(
    keeper: PrincipalsKeeper, file: Path, site: Site, event_log: RecordingEventLog
) -> None:
    file.write_text("clients: {a: {secret: true}}")
    keeper.apply()

    assert event_log.named("client_secret_unseen") == [{"client_id": "a"}]
    assert "idcs_" not in repr(event_log.events)
    _, secret = site.directory.clients.rotate_secret("a")
    assert isinstance(secret, Secret)
