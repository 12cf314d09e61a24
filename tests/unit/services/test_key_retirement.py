"""Retiring a signing key in an emergency: what it revokes, and which key signs instead."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from identity_service.domain.errors import (
    IdentityError,
    NotFoundError,
    ReplicaStaleError,
    StaleEtagError,
    StoreUnavailableError,
)
from identity_service.domain.ids import KeyId, key_principal
from identity_service.domain.keys import KeyPurpose, KeyState
from identity_service.services.rotation import Rotation
from tests.unit.services.use_case_site import CALLER, UseCaseSite, before, failing, unreachable


@pytest.fixture
def rotation(site: UseCaseSite) -> Rotation:
    return site.use.rotation


def states(site: UseCaseSite) -> list[str]:
    """Return the states of the signing keys, the oldest key first."""
    site.replica.catch_up()
    return list(site.key_states().values())


def test_a_retired_key_revokes_what_it_made_and_the_standby_is_used_instead(
    site: UseCaseSite, rotation: Rotation
) -> None:
    site.new_client()
    site.pass_time(seconds=1)
    in_use, standby = site.key_ids()
    tokens, elsewhere = site.client_token(), site.other_process()

    retired = rotation.retire(in_use, "stolen", origin=CALLER)

    assert site.reason(tokens) == "REVOKED"
    elsewhere.replica.reach(retired.revision)
    assert elsewhere.reason(tokens) == "REVOKED"
    assert (retired.successor.key_id, retired.successor.state) == (standby, KeyState.SIGNING)
    assert retired.successor.activate_time == site.clock.now()
    assert states(site) == ["revoked", "signing", "pending"]
    assert site.reason(site.client_token()) == ""
    wanted = {
        "outcome": "done",
        "actor": "admin",
        "target": in_use,
        "peer": CALLER.peer,
        "reason": "stolen",
        "purpose": "sign",
    }
    assert site.audited("key_retired") == site.stored("key_retired") == [wanted]
    assert site.audited("key_activated") == [site.key_event(standby)]
    assert site.audited("key_created") == [site.key_event(site.key_ids()[-1])]


def test_a_waiting_key_that_is_retired_is_replaced_while_the_one_in_use_stays(
    site: UseCaseSite, rotation: Rotation
) -> None:
    in_use, standby = site.key_ids()
    activated = site.key(in_use).activate_time
    site.pass_time(hours=2)

    successor = rotation.retire(standby, "").successor

    assert (successor.key_id, successor.activate_time) == (in_use, activated)
    assert sorted(states(site)) == ["pending", "revoked", "signing"]
    assert not site.audited("key_activated")


def test_a_key_is_made_if_no_other_one_is_left(site: UseCaseSite, rotation: Rotation) -> None:
    in_use, standby = site.key_ids()
    site.delete_key(standby)
    site.pass_time(seconds=1)

    successor = rotation.retire(in_use, "").successor

    assert successor.key_id not in (in_use, standby)
    assert (successor.state, successor.activate_time) == (KeyState.SIGNING, site.clock.now())
    assert states(site) == ["revoked", "signing", "pending"]


def test_to_retire_a_key_twice_changes_nothing_more(site: UseCaseSite, rotation: Rotation) -> None:
    site.pass_time(seconds=1)
    in_use = site.key_ids()[0]
    first = rotation.retire(in_use, "")
    keys = states(site)

    again = rotation.retire(in_use, "")

    assert again.successor == first.successor
    assert states(site) == keys
    assert site.store.log.generations()[key_principal(in_use)].number == 1


def test_a_key_that_does_not_exist_is_named_in_the_error(rotation: Rotation) -> None:
    with pytest.raises(NotFoundError, match=r"^nokey: .*`identity key list`"):
        rotation.retire(KeyId("nokey"), "")


def test_a_retirement_that_the_store_does_not_confirm_is_enforced_and_sent_again(
    site: UseCaseSite, rotation: Rotation
) -> None:
    site.new_client()
    tokens = site.client_token()
    before(site.store.facts, "raise_generation", unreachable)

    with pytest.raises(StoreUnavailableError):
        rotation.retire(site.key_ids()[0], "")

    assert site.reason(tokens) == "REVOKED"
    assert not site.audited("key_retired")
    site.replica.maintenance.do()
    (raised,) = site.store.log.generations().values()
    assert raised.number == 1
    assert site.other_process().reason(tokens) == "REVOKED"


@pytest.mark.parametrize("error", [StaleEtagError, NotFoundError])
def test_a_retirement_survives_a_race_for_the_next_key(
    site: UseCaseSite, rotation: Rotation, error: type[IdentityError]
) -> None:
    site.pass_time(seconds=1)
    in_use, standby = site.key_ids()
    before(site.store.records, "update", *[failing(error("it changed"))] * 7)

    successor = rotation.retire(in_use, "").successor

    assert (successor.key_id, successor.activate_time) == (standby, site.clock.now())


@pytest.mark.parametrize(
    "call",
    [
        lambda rotation, _: rotation.maintain(),
        lambda rotation, _: rotation.rotate(KeyPurpose.SIGN),
        lambda rotation, key_id: rotation.retire(key_id, ""),
    ],
    ids=["maintain", "rotate", "retire"],
)
def test_a_stale_process_changes_no_key(
    site: UseCaseSite, rotation: Rotation, call: Callable[[Rotation, KeyId], object]
) -> None:
    key_id, count = site.key_ids()[0], len(site.changes())
    site.clock.advance(timedelta(days=30))

    with pytest.raises(ReplicaStaleError):
        call(rotation, key_id)

    assert len(site.changes()) == count
