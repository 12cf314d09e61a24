"""The keys of a trusted issuer that are read from a file or stored in the issuer's record."""

import os
import socket
from pathlib import Path

import pytest

from identity_service.adapters.remote_keys.documents import KeyDocument
from identity_service.adapters.remote_keys.holder import HeldIssuerKeys
from identity_service.domain.errors import IssuerUnreachableError
from identity_service.domain.issuers import TrustedIssuer
from tests.fakes.event_logs import RecordingEventLog
from tests.jwts import PartyKey, key_set
from tests.rpc.clocks import ShiftedClock

OLD, NEW = PartyKey.make("ES256", "old"), PartyKey.make("ES256", "new")


class Site:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock, self.event_log = ShiftedClock(), RecordingEventLog()
        self.held = HeldIssuerKeys(_fetch_nothing, self.clock, self.event_log, waiting=2)
        self.issuer = TrustedIssuer(issuer="cluster", jwks_file=str(path))
        self.held.follow([self.issuer])

    def write(self, *keys: PartyKey) -> None:
        """Replace the file by renaming another one, as a program that updates such a file should."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(key_set(*(key.public() for key in keys)))
        fresh.replace(self.path)

    def knows(self, key_id: str) -> bool:
        return self.held.find(self.issuer, key_id) is not None


def _fetch_nothing(_: str) -> KeyDocument:
    raise AssertionError("there is nothing to fetch")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "keys.json")


def test_a_file_is_read_again_when_it_was_replaced(site: Site) -> None:
    site.write(OLD)
    assert site.knows("old")

    site.write(NEW)
    site.clock.age(1.1)

    assert (site.knows("old"), site.knows("new")) == (False, True)


def test_a_file_is_looked_at_once_a_second_at_most(site: Site) -> None:
    site.write(OLD)
    assert site.knows("old")

    site.write(NEW)

    assert not site.knows("new")


def test_a_file_that_is_not_there_is_unreachable_until_it_is(site: Site) -> None:
    with pytest.raises(IssuerUnreachableError):
        site.knows("old")
    (failed,) = site.event_log.named("issuer_keys_failed")
    assert failed["issuer"] == "cluster"
    assert failed["why"].endswith("cannot be read: No such file or directory")

    site.write(OLD)
    site.clock.age(1.1)
    assert site.knows("old")


@pytest.mark.parametrize("content", [None, "", "{}", "x" * 70_000])
def test_the_last_good_keys_stay_for_a_day(site: Site, content: str | None) -> None:
    site.write(OLD)
    assert site.knows("old")

    if content is None:
        site.path.unlink()
    else:
        site.path.write_text(content)
    for _ in range(3):
        site.clock.age(2)
        assert site.knows("old")
    assert len(site.event_log.named("issuer_keys_failed")) == 1
    site.clock.age(86400)

    with pytest.raises(IssuerUnreachableError):
        site.knows("old")


def test_keys_of_the_record_itself_need_nothing_else(site: Site) -> None:
    issuer = TrustedIssuer(issuer="ci", jwks=key_set(OLD.public()))
    site.held.follow([issuer])

    assert site.held.find(issuer, "old") is not None
    assert site.held.find(issuer, "new") is None


def test_a_record_whose_keys_cannot_be_used_harms_no_other(site: Site) -> None:
    broken = TrustedIssuer(issuer="broken", jwks="{}")
    good = TrustedIssuer(issuer="ci", jwks=key_set(OLD.public()))
    site.held.follow([broken, good])

    assert site.held.find(broken, "old") is None
    assert site.held.find(good, "old") is not None
    assert site.event_log.named("issuer_keys_failed")[0]["issuer"] == "broken"


def test_only_algorithms_that_are_accepted_of_the_issuer_count(site: Site) -> None:
    issuer = TrustedIssuer(issuer="ci", jwks=key_set(OLD.public()), algorithms=("RS256",))
    site.held.follow([issuer])

    assert site.held.find(issuer, "old") is None


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "device"])
def test_a_file_that_is_not_regular_is_refused_at_once(site: Site, kind: str) -> None:
    """Opening a pipe without a writer would block every caller."""
    with socket.socket(socket.AF_UNIX) as listener:
        match kind:
            case "pipe":
                os.mkfifo(site.path)
            case "folder":
                site.path.mkdir()
            case "socket":
                listener.bind(str(site.path))
            case _:
                site.path.symlink_to("/dev/zero")
        with pytest.raises(IssuerUnreachableError):
            site.knows("old")
    (failed,) = site.event_log.named("issuer_keys_failed")
    assert "not a regular file" in failed["why"]


def test_a_file_that_becomes_a_pipe_while_it_is_opened_blocks_no_caller(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write(OLD)
    found = site.path.stat()
    site.path.unlink()
    os.mkfifo(site.path)
    monkeypatch.setattr(Path, "stat", lambda _: found)
    with pytest.raises(IssuerUnreachableError):
        site.knows("old")
