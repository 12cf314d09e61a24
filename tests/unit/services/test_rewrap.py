"""Rewrapping encrypts all keys under the new master key, whatever other processes do meanwhile."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from pydantic import SecretStr

from identity_service.domain.errors import ConfigurationError, ReplicaStaleError, StaleEtagError
from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.log import RecordKind
from identity_service.domain.store import all_records
from identity_service.services.rewrap import Rewrapped
from tests.service_site import MASTER_KEY
from tests.unit.services.use_case_site import CALLER, UseCaseSite, before, failing, open_site

NEW = "the master key of tomorrow, 32 characters or more"


@pytest.fixture
def old() -> Iterator[UseCaseSite]:
    """Yield the use cases of a process that has only the old master key."""
    with open_site() as site:
        site.new_client()
        yield site


@pytest.fixture
def new(old: UseCaseSite) -> UseCaseSite:
    """Yield the use cases of a process with the new master key, which can decrypt with the old one too."""
    return with_keys(old, NEW, MASTER_KEY)


def with_keys(site: UseCaseSite, master_key: str, other: str | None = None) -> UseCaseSite:
    return site.other_process(
        master_key=SecretStr(master_key), other_master_key=SecretStr(other) if other else None
    )


def stored_keys(site: UseCaseSite) -> list[StoredKey]:
    return [found.record for found in all_records(site.store.records, StoredKey)]


def test_each_key_is_sealed_anew_once_and_stays_the_key_that_it_is(
    old: UseCaseSite, new: UseCaseSite
) -> None:
    tokens, keys = old.client_token(), stored_keys(old)

    assert new.use.rewrap.rewrap(origin=CALLER) == Rewrapped(rewrapped=6, total=6)

    alone = with_keys(old, NEW)
    assert alone.reason(tokens) == alone.reason(alone.client_token()) == ""
    events = [
        {
            "outcome": "done",
            "actor": "admin",
            "target": key.key_id,
            "peer": CALLER.peer,
            "purpose": key.purpose.value,
        }
        for key in keys
    ]
    assert new.audited("key_rewrapped") == new.stored("key_rewrapped") == events
    assert {key.purpose for key in keys} == set(KeyPurpose)
    assert new.use.rewrap.rewrap() == Rewrapped(rewrapped=0, total=6)


def test_keys_that_no_configured_master_key_opens_are_left_alone(old: UseCaseSite, new: UseCaseSite) -> None:
    new.use.rewrap.rewrap()
    keys = stored_keys(old)

    with pytest.raises(ConfigurationError):
        old.use.rewrap.rewrap()

    assert stored_keys(old) == keys


def rewrap_elsewhere(old: UseCaseSite, key: StoredKey) -> int:
    return with_keys(old, NEW, MASTER_KEY).use.rewrap.rewrap().rewrapped


def delete(old: UseCaseSite, key: StoredKey) -> object:
    return old.store.records.delete(RecordKind.KEY, key.key_id)


@pytest.mark.parametrize(("happens", "rewrapped"), [(rewrap_elsewhere, 0), (delete, 5)])
def test_a_key_that_another_process_was_faster_with_is_not_counted(
    old: UseCaseSite,
    new: UseCaseSite,
    happens: Callable[[UseCaseSite, StoredKey], object],
    rewrapped: int,
) -> None:
    first = stored_keys(old)[0]
    before(old.store.records, "update", lambda: happens(old, first))

    assert new.use.rewrap.rewrap() == Rewrapped(rewrapped=rewrapped, total=6)


@pytest.mark.parametrize(("lost", "rewrapped"), [(7, 6), (8, None)])
def test_a_key_that_changes_all_the_time_is_tried_eight_times(
    old: UseCaseSite, new: UseCaseSite, lost: int, rewrapped: int | None
) -> None:
    before(old.store.records, "update", *[failing(StaleEtagError("it changed"))] * lost)

    if rewrapped is None:
        with pytest.raises(StaleEtagError, match="try again"):
            new.use.rewrap.rewrap()
    else:
        assert new.use.rewrap.rewrap().rewrapped == rewrapped


def test_a_stale_process_seals_nothing(old: UseCaseSite, new: UseCaseSite) -> None:
    keys = stored_keys(old)
    old.clock.advance(timedelta(seconds=6))

    with pytest.raises(ReplicaStaleError):
        new.use.rewrap.rewrap()

    assert stored_keys(old) == keys
