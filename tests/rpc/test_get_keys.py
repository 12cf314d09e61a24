"""GetKeys: the published keys verify issued tokens, and GetKeys works without the store."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc
import jwt
import pytest

from identity_service.composition.opening import open_vault
from identity_service.domain.keys import KeyPurpose
from identityapi.v1 import trust_service_pb2 as pb
from identityapi.v1 import trust_service_pb2_grpc as rpc
from tests.patience import until
from tests.ports import reserve_port
from tests.redis_server import RedisServer
from tests.rpc.conftest import StartWorld, settings_for_tests
from tests.rpc.outages import lose, on, reason_of
from tests.rpc.slow_log import starting
from tests.rpc.world import World, bearer, failure


def get_keys(channel: grpc.Channel) -> pb.GetKeysResponse:
    answer: pb.GetKeysResponse = rpc.TrustServiceStub(channel).GetKeys(pb.GetKeysRequest())
    return answer


def test_the_keys_verify_issued_tokens(world: World) -> None:
    token = world.issue(world.new_client()).access_token
    answer = get_keys(world.channel)

    key, standby = json.loads(answer.key_set.jwks)["keys"]
    assert key == json.loads(answer.key_set.keys[0].jwk)
    assert (key["kid"], key["alg"]) == (answer.key_set.keys[0].key_id, "ES256")
    assert answer.key_set.keys[0].state == pb.KEY_STATE_SIGNING
    assert answer.key_set.keys[1].state == pb.KEY_STATE_PENDING
    assert "d" not in key | standby
    claims = jwt.decode(token, jwt.PyJWK(key).key, ["ES256"], options={"verify_aud": False})
    assert claims["iss"]
    assert answer.key_set.max_age.seconds > 0


def test_the_revision_is_the_one_up_to_which_the_process_has_read(world: World) -> None:
    revision = world.revoke(world.admin_token(), token_id="t1")
    until(lambda: get_keys(world.channel).revision == revision)


def test_a_key_for_later_is_published_as_pending_and_signs_when_its_time_comes(world: World) -> None:
    current, standby = get_keys(world.channel).key_set.keys
    later = world.clock.now() + timedelta(hours=1)
    key = replace(
        open_vault(world.settings).make(KeyPurpose.SIGN, "EdDSA", world.clock.now()), activate_time=later
    )
    world.store.records.create(key)
    until(lambda: key.key_id in {k.key_id for k in get_keys(world.channel).key_set.keys})

    def states() -> dict[str, str]:
        keys = get_keys(world.channel).key_set.keys
        return {k.key_id: pb.KeyState.Name(k.state).removeprefix("KEY_STATE_") for k in keys}

    # The maintenance at the start of the service, if it is so late, deletes the second key that waits.
    waiting = {standby.key_id: "PENDING"}
    assert waiting | states() == {current.key_id: "SIGNING", key.key_id: "PENDING"} | waiting
    world.clock.advance(hours=2)
    assert waiting | states() == {current.key_id: "VERIFYING", key.key_id: "SIGNING"} | waiting


def test_a_symmetric_key_is_never_published(start_world: StartWorld) -> None:
    answer = get_keys(start_world(algorithm="HS256").channel)
    assert json.loads(answer.key_set.jwks) == {"keys": []}
    assert not answer.key_set.keys


def test_if_callers_must_authenticate_the_keys_need_a_credential(start_world: StartWorld) -> None:
    world = start_world(require_caller_auth=True)
    with pytest.raises(grpc.RpcError) as refused:
        get_keys(world.channel)
    assert failure(refused.value).code is grpc.StatusCode.UNAUTHENTICATED
    metadata = bearer(world.admin_token(["identity.verify"]))
    assert rpc.TrustServiceStub(world.channel).GetKeys(pb.GetKeysRequest(), metadata=metadata).key_set.keys


def test_the_keys_are_served_while_the_store_is_unreachable(tmp_path: Path) -> None:
    """Services that verify tokens themselves may start during an outage and need the keys.

    Verify fails closed, but GetKeys does not.
    """
    server = RedisServer(tmp_path)
    server.start()
    try:
        with on(server) as world:
            token, before = world.issue(world.new_client()).access_token, get_keys(world.channel)
            lose(server, world)
            until(lambda: reason_of(lambda: world.verify(token)) == "REPLICA_STALE")
            assert get_keys(world.channel).key_set == before.key_set
    finally:
        server.stop()


def test_before_the_keys_are_loaded_no_empty_set_is_served(tmp_path: Path) -> None:
    """A client may cache an empty key set for minutes and would meanwhile reject every token."""
    port = reserve_port()
    settings = settings_for_tests(listen=f"127.0.0.1:{port}", store=f"sqlite:///{tmp_path}/identity.db")
    with (
        starting(settings, "generations") as go_on,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        assert reason_of(lambda: get_keys(channel)) == "NOT_READY"
        watch = rpc.TrustServiceStub(channel).Watch(pb.WatchRequest())
        assert reason_of(lambda: next(iter(watch))) == "NOT_READY"

        go_on()
        assert get_keys(channel).key_set.keys
