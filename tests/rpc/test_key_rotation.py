"""The rotation and the retirement of keys, over gRPC and on both stores."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import grpc
import jwt
import pytest

from identity_service import bootstrap
from identity_service.bootstrap import Service
from identity_service.domain.keys import StoredKey
from identity_service.domain.store import Store
from identity_service.storage.redis import RedisStore
from identity_service.storage.sqlite import SqliteStore
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import trust_service_pb2 as trust_pb
from identityapi.v1 import trust_service_pb2_grpc as trust_rpc
from tests.patience import until
from tests.rpc.administrator import Administrator, events, fails
from tests.rpc.conftest import StartWorld
from tests.rpc.heartbeats import Heartbeats
from tests.rpc.keys import keys, look_after, published, signed_with
from tests.rpc.shop import Shop
from tests.rpc.watching import knows, watching
from tests.rpc.world import API, World

HOUR = timedelta(hours=1)


@pytest.fixture
def twin(world: World, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """A second process of the service on the same store."""
    store: Store
    if isinstance(world.store, RedisStore):
        store = RedisStore.connect(request.getfixturevalue("redis_server").url, clock=world.clock)
    else:
        store = SqliteStore.open(str(tmp_path / "identity.db"), clock=world.clock)
    service = Service(world.settings, clock=world.clock, store=store)
    heartbeats = Heartbeats(service)
    target = f"127.0.0.1:{service.start()}"
    try:
        with grpc.insecure_channel(target) as channel, world.clock.followed_by(heartbeats.notices_a_move):
            yield World(
                settings=world.settings,
                clock=world.clock,
                store=store,
                store_admin=world.store_admin,
                service=service,
                target=target,
                channel=channel,
                admin=world.admin,
            )
    finally:
        service.stop()
        store.close()


def test_a_fresh_store_has_a_key_that_signs_and_one_that_waits_for_each_purpose(world: World) -> None:
    for purpose in (trust_pb.KEY_PURPOSE_SIGN, trust_pb.KEY_PURPOSE_REFRESH, trust_pb.KEY_PURPOSE_ENCRYPT):
        assert list(keys(world, purpose).values()) == ["SIGNING", "PENDING"]


def test_by_schedule_the_standby_signs_and_earlier_signatures_stay_valid(world: World) -> None:
    client = world.new_client()
    standby = list(keys(world))[1]
    world.clock.advance(days=30, seconds=-60)
    before = world.issue(client).access_token

    world.clock.advance(seconds=61)
    after = world.issue(client).access_token

    assert signed_with(after) == standby != signed_with(before)
    assert world.reason(before) == world.reason(after) == ""


def test_the_keeper_makes_the_next_standby_and_deletes_keys_that_no_token_needs(world: World) -> None:
    first, second = keys(world)
    world.clock.advance(days=30)
    look_after(world)
    third = list(keys(world))[2]
    assert keys(world) == {first: "VERIFYING", second: "SIGNING", third: "PENDING"}

    world.clock.advance(days=2)
    look_after(world)

    assert keys(world) == {second: "SIGNING", third: "PENDING"}
    assert [key.key_id for key in published(world).keys] == [second, third]
    assert [event.type for event in events(world, first)] == ["key_created", "key_deleted"]


@pytest.mark.in_process
def test_a_clock_that_is_weeks_ahead_for_a_moment_costs_no_key(world: World) -> None:
    before = world.issue(world.new_client()).access_token
    world.clock.step(days=35)
    look_after(world)

    world.clock.step(days=-35)

    assert world.reason(before) == ""


@pytest.mark.in_process
def test_the_keeper_acts_by_itself(start_world: StartWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_KEYS_INTERVAL", timedelta(milliseconds=20))
    world = start_world()
    world.clock.advance(days=30)

    until(lambda: list(keys(world).values()) == ["VERIFYING", "SIGNING", "PENDING"])


def test_two_processes_make_one_standby_between_them(world: World, twin: World) -> None:
    world.clock.advance(days=30)
    look_after(world)
    look_after(twin)
    until(lambda: keys(twin) == keys(world))

    assert list(keys(world).values()) == ["VERIFYING", "SIGNING", "PENDING"]


def test_a_rotation_brings_a_standby_that_is_old_enough_into_use_at_once(world: World) -> None:
    client = world.new_client()
    current, standby = keys(world)
    world.clock.advance(hours=2)
    before = world.issue(client).access_token
    admin = Administrator(world, world.admin_token(scopes=["identity.admin"]))
    answer = admin.call("RotateKeys").key

    assert (answer.key_id, answer.state) == (standby, trust_pb.KEY_STATE_SIGNING)
    after = world.issue(client).access_token
    assert (signed_with(before), signed_with(after)) == (current, standby)
    assert world.reason(before) == world.reason(after) == ""
    assert list(keys(world).values()) == ["VERIFYING", "SIGNING", "PENDING"]


def test_a_rotation_waits_until_every_verifier_can_know_the_key(world: World, admin: Administrator) -> None:
    client = world.new_client()
    current, standby = keys(world)
    answer = admin.call("RotateKeys").key

    assert answer.state == trust_pb.KEY_STATE_PENDING
    assert answer.activate_time.ToDatetime() - answer.create_time.ToDatetime() == HOUR
    assert signed_with(world.issue(client).access_token) == current
    world.clock.advance(hours=1)
    assert signed_with(world.issue(client).access_token) == standby


def test_the_algorithm_changes_while_every_token_verifies(start_world: StartWorld) -> None:
    world = start_world(publish_before=timedelta(minutes=1))
    client = world.new_client()
    tokens = [world.issue(client).access_token]
    for algorithm in ("EdDSA", "RS256", "ES384", "ML-DSA-44", "ML-DSA-65"):
        caller = Administrator(world, world.admin_token(scopes=["identity.admin"]))
        answer = caller.call("RotateKeys", algorithm=algorithm).key
        assert (answer.algorithm, answer.state) == (algorithm, trust_pb.KEY_STATE_PENDING)
        assert answer.key_id in {key["kid"] for key in json.loads(published(world).jwks)["keys"]}
        world.clock.advance(minutes=1)
        look_after(world)
        tokens.append(world.issue(client).access_token)

    algorithms = [jwt.get_unverified_header(token)["alg"] for token in tokens]
    assert algorithms == ["ES256", "EdDSA", "RS256", "ES384", "ML-DSA-44", "ML-DSA-65"]
    assert [world.reason(token) for token in tokens] == [""] * 6
    standby = next(k for k in published(world).keys if k.state == trust_pb.KEY_STATE_PENDING)
    assert standby.algorithm == "ML-DSA-65"


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"algorithm": "none"}, "algorithm"),
        ({"algorithm": "HS256"}, "algorithm"),
        ({"algorithm": "ES256", "purpose": trust_pb.KEY_PURPOSE_REFRESH}, "algorithm"),
        ({"purpose": 99}, "purpose"),
    ],
)
def test_a_rotation_that_makes_no_sense_names_the_field(
    admin: Administrator, wanted: dict[str, object], field: str
) -> None:
    assert admin.invalid("RotateKeys", **wanted) == [field]


def test_everything_signed_with_a_retired_key_is_refused_at_once_and_the_standby_signs(
    world: World, admin: Administrator
) -> None:
    client = world.new_client()
    current, standby = keys(world)
    token = world.issue(client).access_token
    assert world.reason(token) == ""

    answer = admin.call("RetireKey", key_id=current, reason="it leaked")

    assert (answer.key.key_id, answer.key.state) == (standby, trust_pb.KEY_STATE_SIGNING)
    assert world.reason(token) == "REVOKED"
    assert world.verify(token).rejected.detail == "a key that the token was made with was retired"
    after = world.issue(client).access_token
    assert signed_with(after) == standby
    assert world.reason(after) == ""
    assert fails(lambda: admin.call("ListKeys")).code is grpc.StatusCode.UNAUTHENTICATED
    assert list(keys(world).values()) == ["REVOKED", "SIGNING", "PENDING"]
    assert current not in published(world).jwks
    (retired,) = (event for event in events(world, current) if event.type == "key_retired")
    assert (retired.actor, retired.reason) == (world.admin.id, "it leaked")


def test_a_second_process_refuses_it_too_and_signs_with_the_same_key(world: World, twin: World) -> None:
    client = world.new_client()
    current, standby = keys(world)
    token = world.issue(client).access_token
    until(lambda: twin.reason(token) == "")

    caller = Administrator(world, world.admin_token(scopes=["identity.admin"]))
    caller.call("RetireKey", key_id=current)

    until(lambda: twin.reason(token) == "REVOKED")
    until(lambda: signed_with(twin.issue(client).access_token) == standby)


def test_a_retired_key_stays_so_for_a_process_that_starts_later(
    world: World, request: pytest.FixtureRequest
) -> None:
    token = world.issue(world.new_client()).access_token
    Administrator(world, world.admin_token(scopes=["identity.admin"])).call(
        "RetireKey", key_id=signed_with(token)
    )
    later: World = request.getfixturevalue("twin")

    assert later.reason(token) == "REVOKED"
    assert signed_with(later.admin_token()) != signed_with(token)


def test_it_can_be_retired_again_and_nothing_more_happens(world: World, admin: Administrator) -> None:
    current, standby = keys(world)
    first = admin.call("RetireKey", key_id=current)
    again = Administrator(world, world.admin_token(scopes=["identity.admin"])).call(
        "RetireKey", key_id=current
    )

    assert again.key.key_id == first.key.key_id == standby


def test_a_standby_is_retired_before_it_signs_anything(world: World, admin: Administrator) -> None:
    current, standby = keys(world)
    answer = admin.call("RetireKey", key_id=standby)

    assert answer.key.key_id == current
    assert [state for key, state in keys(world).items() if key != standby] == ["SIGNING", "PENDING"]


def test_watchers_are_notified_of_a_retired_key_and_of_the_remaining_keys(
    world: World, admin: Administrator
) -> None:
    current, standby = keys(world)
    with watching(world) as watcher:
        watcher.until(lambda w: w.complete)
        admin.call("RetireKey", key_id=current)
        watcher.until(knows(f"*key:{current}"))
        watcher.until(
            lambda w: any(
                m.HasField("key_set") and current not in m.key_set.jwks and standby in m.key_set.jwks
                for m in w.seen
            )
        )


def test_a_token_exchanged_from_one_of_a_retired_key_is_refused(world: World) -> None:
    shop = Shop(world)
    world.clock.advance(hours=2)
    caller = Administrator(world, world.admin_token(scopes=["identity.admin"]))
    signed_in = shop.sign_in()
    caller.call("RotateKeys")
    exchanged = shop.exchange(signed_in.access_token).access_token
    assert signed_with(exchanged) != signed_with(signed_in.access_token)
    assert shop.why(exchanged) == ""

    caller.call("RetireKey", key_id=signed_with(signed_in.access_token))

    assert shop.why(exchanged) == "REVOKED"


def test_a_retired_refresh_key_ends_every_session_that_was_made_with_it(world: World) -> None:
    ana = world.new_user()
    before = world.issue(ana)
    current, standby = keys(world, trust_pb.KEY_PURPOSE_REFRESH)
    caller = Administrator(world, world.admin_token(scopes=["identity.admin"]))
    assert caller.call("RetireKey", key_id=current).key.key_id == standby

    refused = fails(lambda: world.refresh(before.refresh_token))
    assert refused.code is grpc.StatusCode.UNAUTHENTICATED
    after = world.issue(ana)
    assert world.refresh(after.refresh_token).refresh_token


def test_a_refresh_key_rotates_and_old_sessions_go_on(world: World) -> None:
    ana = world.new_user()
    session = world.issue(ana)
    world.clock.advance(hours=2)
    caller = Administrator(world, world.admin_token(scopes=["identity.admin"]))
    caller.call("RotateKeys", purpose=trust_pb.KEY_PURPOSE_REFRESH)

    assert world.refresh(session.refresh_token).refresh_token
    states = keys(world, trust_pb.KEY_PURPOSE_REFRESH)
    assert list(states.values()) == ["VERIFYING", "SIGNING", "PENDING"]


def test_a_key_that_does_not_exist_is_not_found(admin: Administrator) -> None:
    assert admin.refused("RetireKey", key_id="nobody").code is grpc.StatusCode.NOT_FOUND
    assert admin.invalid("RetireKey") == ["key_id"]


def test_a_store_of_shared_keys_rotates_within_them_and_never_publishes_one(start_world: StartWorld) -> None:
    world = start_world(algorithm="HS256", publish_before=timedelta(0))
    client = world.new_client()
    token = world.issue(client).access_token
    caller = Administrator(world, world.admin_token(scopes=["identity.admin"]))

    assert caller.invalid("RotateKeys", algorithm="ES256") == ["algorithm"]
    answer = caller.call("RotateKeys").key

    assert (answer.algorithm, answer.jwk) == ("HS256", "")
    after = world.issue(client).access_token
    assert signed_with(after) == answer.key_id != signed_with(token)
    assert world.reason(token) == world.reason(after) == ""
    assert json.loads(published(world).jwks) == {"keys": []}


def test_an_etag_saves_sending_the_keys_again(world: World, admin: Administrator) -> None:
    held = published(world)
    stub = trust_rpc.TrustServiceStub(world.channel)
    assert not stub.GetKeys(trust_pb.GetKeysRequest(etag=held.etag)).HasField("key_set")

    admin.call("RetireKey", key_id=list(keys(world))[1])

    assert published(world, held.etag).etag != held.etag


def test_keys_may_be_cached_for_less_than_they_are_published_before_they_sign(world: World) -> None:
    assert timedelta(0) < published(world).max_age.ToTimedelta() < HOUR


def test_every_stored_key_is_sealed(world: World) -> None:
    world.clock.advance(days=30)
    look_after(world)
    for found in world.store.records.list_of(StoredKey, limit=100):
        assert found.record.sealed.count(".") == 4, "a compact JWE has five parts"
        assert '"d"' not in (found.record.public_jwk or "")


def test_a_retired_key_is_refused_in_a_batch_as_well(world: World, admin: Administrator) -> None:
    client = world.new_client()
    token = world.issue(client).access_token
    admin.call("RetireKey", key_id=signed_with(token))
    fresh = world.issue(client).access_token
    requests = [pb.VerifyRequest(token=text, audiences=[API]) for text in (token, fresh)]
    answers = world.stub.VerifyBatch(pb.VerifyBatchRequest(requests=requests)).responses

    assert [answer.WhichOneof("outcome") for answer in answers] == ["rejected", "verified"]
