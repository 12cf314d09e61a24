"""The client of TrustService with the real service: keys, snapshot, changes, and the end of a stream."""

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from identity_client import (
    ClientOptions,
    GenerationRaised,
    InvalidArgumentError,
    SessionEnded,
    TokenDenied,
    TrustClient,
    UnauthenticatedError,
    UnavailableError,
    WatchEvent,
)
from identity_client.trust import to_event
from identity_service.storage.sqlite import SqliteStore
from identityapi.v1 import trust_service_pb2 as pb
from tests.rpc.conftest import running, settings_for_tests
from tests.rpc.world import World

pytestmark = pytest.mark.usefixtures("both_kinds")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running(
        settings_for_tests(), lambda clock: SqliteStore.open(str(tmp_path / "i.db"), clock=clock)
    ) as world:
        yield world


def until_known(watch: Iterator[WatchEvent]) -> list[WatchEvent]:
    """Return the events until the first one with a revision."""
    seen = []
    for event in watch:
        seen.append(event)
        if event.revision:
            return seen
    raise AssertionError("the stream ended")


def test_the_keys_are_those_that_sign(world: World) -> None:
    with TrustClient(world.target) as client:
        keys = client.get_keys()
    assert [(key.state, key.algorithm) for key in keys.keys] == [("SIGNING", "ES256"), ("PENDING", "ES256")]
    assert json.loads(keys.jwks)["keys"] == [json.loads(key.jwk) for key in keys.keys]
    assert keys.max_age.total_seconds() > 0


def test_a_watch_yields_the_live_revocations_and_then_each_change(world: World) -> None:
    admin = world.admin_token()
    world.revoke(admin, token_id="before")
    with TrustClient(world.target) as client:
        watch = client.watch()
        live = until_known(watch)
        assert live[0].restarted
        assert [n.keys is not None for n in live].count(True) == 1
        assert [r.token_id for n in live for r in n.revocations if isinstance(r, TokenDenied)] == ["before"]

        world.revoke(admin, session_id="s1")
        # A revocation from just before may come once more: facts only grow, and twice does no harm.
        found = (r for n in watch for r in n.revocations)
        assert next(r for r in found if isinstance(r, SessionEnded)).session_id == "s1"
        revision = world.revoke(admin, subject="ana")
        event = next(n for n in watch if n.revocations)
        assert event.revision == revision
        (raised,) = event.revocations
        assert isinstance(raised, GenerationRaised)
        assert (raised.principal, raised.number) == ("ana", 1)
        watch.close()  # type: ignore[attr-defined]  # an iterator that is a generator

        world.revoke(admin, token_id="missed")
        resumed = until_known(client.watch(event.revision))
        assert not any(n.restarted for n in resumed)
        assert [r for n in resumed for r in n.revocations if r == raised] == []


def test_errors_are_those_of_the_other_methods(world: World) -> None:
    with TrustClient(world.target) as client:
        with pytest.raises(InvalidArgumentError) as refused:
            next(client.watch("nonsense"))
        assert "resume_after" in refused.value.violations
        watch = client.watch()
        until_known(watch)
        world.service.stop()
        with pytest.raises(UnavailableError) as stopped:
            list(watch)
        assert stopped.value.reason == "SHUTTING_DOWN"


def test_a_bearer_goes_along_and_is_never_shown(tmp_path: Path) -> None:
    settings = settings_for_tests(require_caller_auth=True)
    with running(settings, lambda clock: SqliteStore.open(str(tmp_path / "i.db"), clock=clock)) as world:
        with TrustClient(world.target) as stranger, pytest.raises(UnauthenticatedError):
            next(stranger.watch())
        options = ClientOptions(bearer=world.admin_token(["identity.verify"]))
        with TrustClient(world.target, options=options) as client:
            assert until_known(client.watch())
            assert client.get_keys().keys


def test_a_channel_of_the_callers_may_be_used(world: World) -> None:
    with grpc.insecure_channel(world.target) as channel, TrustClient(channel=channel) as client:
        assert client.get_keys().keys


def test_a_revocation_of_a_newer_kind_is_not_passed_over() -> None:
    """Otherwise the client would accept a token that the service refuses."""
    with pytest.raises(ValueError, match="this client does not know"):
        to_event(pb.WatchResponse(revocations=[pb.Revocation()]))


def test_a_key_in_a_newer_state_is_shown_by_its_number() -> None:
    message = pb.WatchResponse()
    message.key_set.keys.add(key_id="k", state=99)
    keys = to_event(message).keys
    assert keys is not None
    assert keys.keys[0].state == "UNKNOWN_99"
