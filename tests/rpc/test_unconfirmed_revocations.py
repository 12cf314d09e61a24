"""Revocations that may not have reached the store.

Revoke answers UNAVAILABLE; the service enforces the revocation at once, and resends it until the store
confirms it.
"""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from identity_service.domain.ids import PrincipalId
from identity_service.domain.log import GenerationRaised, SessionEnded, TokenDenied
from tests.patience import until
from tests.rpc.losing import WAYS, lose
from tests.rpc.world import World, failure

pytestmark = pytest.mark.in_process


def changes(world: World) -> list[Any]:
    return [entry.change for entry in world.store.log.read(0, 1000).entries]


@pytest.fixture(params=WAYS)
def losing(request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the first write of each revocation fail, in each way in which writes can fail.

    The service resends a revocation with another method of the store, which succeeds.
    """
    lose(monkeypatch, world.store.facts, ("deny_token", "end_session", "raise_generation"), request.param)


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        call()
    found = failure(error.value)
    assert found.retry_after
    return found.code, found.reason


@pytest.mark.usefixtures("losing")
def test_a_token_is_denied_here_at_once_and_in_the_log_soon_and_once(world: World) -> None:
    tokens, other = world.issue(world.new_client()), world.issue(world.new_client("other"))

    code, reason = refused(lambda: world.revoke(token=tokens.access_token))

    assert code is grpc.StatusCode.UNAVAILABLE
    assert reason in {"STORE_UNAVAILABLE", "NOT_CONFIRMED"}
    assert world.reason(tokens.access_token) == "REVOKED"
    assert world.reason(other.access_token) == ""
    until(lambda: any(isinstance(change, TokenDenied) for change in changes(world)))
    _sent(world)
    assert [c.token_id for c in changes(world) if isinstance(c, TokenDenied)] == [tokens.token_id]


@pytest.mark.usefixtures("losing")
def test_a_session_is_ended_here_at_once_and_in_the_log_soon_and_once(world: World) -> None:
    tokens = world.issue(world.new_user())

    refused(lambda: world.revoke(token=tokens.refresh_token))

    assert world.reason(tokens.access_token) == "REVOKED"
    with pytest.raises(grpc.RpcError):
        world.refresh(tokens.refresh_token)
    _sent(world)
    assert [c.session_id for c in changes(world) if isinstance(c, SessionEnded)] == [tokens.session_id]


@pytest.mark.usefixtures("losing")
def test_a_raise_is_sent_again_as_a_fact_and_never_as_a_new_raise(world: World) -> None:
    """The service resends the same raised generation, so that it does not revoke a later sign-in."""
    admin, client = world.admin_token(), world.new_client()
    before = world.issue(client).access_token

    refused(lambda: world.revoke(admin, client_id=client.id))

    assert world.reason(before) == "REVOKED"
    after = world.issue(client).access_token
    _sent(world)
    assert world.reason(after, strong=True) == ""
    assert world.reason(before) == "REVOKED"
    assert [c.number for c in changes(world) if isinstance(c, GenerationRaised)] == [1]
    assert world.store.log.generations()[PrincipalId(client.id)].number == 1


def _sent(world: World) -> None:
    """Wait until no revocation is unconfirmed."""
    maintenance = world.service._replica.maintenance
    until(lambda: maintenance.unconfirmed == 0)
