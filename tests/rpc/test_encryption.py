"""Encrypted access tokens (JWE) over gRPC, on both stores."""

import json
from typing import Any

import grpc
import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey

from identity_client import DecryptionKey, IdentityClient, Rejected, Verified
from identity_service.composition.opening import open_vault
from identity_service.domain.ids import PrincipalId
from identity_service.domain.keys import StoredKey
from identity_service.domain.log import RecordKind
from identity_service.domain.principals import Client
from identity_shared.strict import decode_base64url
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from identityapi.v1 import trust_service_pb2 as trust_pb
from tests.patience import until
from tests.rpc.administrator import Administrator
from tests.rpc.keys import keys, look_after, published
from tests.rpc.shop import Shop
from tests.rpc.world import API, Principal, World, bearer, failure

SERVICE = token_pb2.TOKEN_ENCRYPTION_SERVICE
AUDIENCE = token_pb2.TOKEN_ENCRYPTION_AUDIENCE
ENCRYPT = trust_pb.KEY_PURPOSE_ENCRYPT
API_KEY = DecryptionKey(ECKey.generate_key("P-256").as_dict(private=True), key_id="api-1")


def header(token: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(decode_base64url(token.split(".")[0]))
    return found


def new_audience(world: World, key: DecryptionKey = API_KEY, client_id: str = API) -> Principal:
    """Return a client that can decrypt the tokens for its audience, which has the name of the client."""
    return world.new_client(client_id, encryption_key=key.public_jwk())


def set_key(world: World, key: str | None, client_id: str = API) -> None:
    wanted = Client(client_id=PrincipalId(client_id), encryption_key=key)
    world.store_admin.administrator.clients.update(wanted, ["encryption_key"])


def not_possible(world: World, principal: Principal, **wanted: Any) -> str:
    """Request an encrypted token that cannot be issued; return the description of the field `encryption`."""
    with pytest.raises(grpc.RpcError) as error:
        world.issue(principal, encryption=AUDIENCE, **wanted)
    found = failure(error.value)
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "ENCRYPTION_NOT_POSSIBLE")
    return found.fields["encryption"]


def taken_out(world: World, token: str) -> str:
    """Decrypt a token with the service's own key; return the signed token in it.

    An attacker who has stolen that key can do this.
    """
    found = world.store.records.get(StoredKey, header(token)["kid"])
    assert found is not None
    inside = open_vault(world.settings).open_decrypting(found.record).decrypt(token)
    assert inside is not None
    return inside


# To the service


def test_a_token_to_the_service_is_opened_by_verify_alone(world: World) -> None:
    token = world.issue(world.new_client(), encryption=SERVICE, scopes=["read"]).access_token

    in_use = next(iter(keys(world, ENCRYPT)))
    said = header(token)
    assert {name: said[name] for name in ("alg", "enc", "kid", "typ", "cty")} == {
        "alg": "ECDH-ES+A256KW",
        "enc": "A256GCM",
        "kid": in_use,
        "typ": "at+jwt",
        "cty": "JWT",
    }
    verified = world.verify(token).verified
    assert (verified.subject, list(verified.scopes)) == ("reports", ["read"])
    assert "gen" not in verified.claims


def test_the_answer_is_the_same_each_time_it_is_asked(world: World) -> None:
    token = world.issue(world.new_client(), encryption=SERVICE).access_token

    assert world.verify(token).verified == world.verify(token).verified
    assert world.reason(token, audiences=["another"]) == "WRONG_AUDIENCE"


@pytest.mark.parametrize(
    "encryption", [token_pb2.TOKEN_ENCRYPTION_UNSPECIFIED, token_pb2.TOKEN_ENCRYPTION_NONE]
)
def test_a_token_is_not_encrypted_unless_requested(
    world: World, encryption: token_pb2.TokenEncryption
) -> None:
    token = world.issue(world.new_client(), encryption=encryption).access_token

    assert token.count(".") == 2
    assert world.reason(token) == ""


def test_an_encryption_that_does_not_exist_is_refused(world: World) -> None:
    with pytest.raises(grpc.RpcError) as error:
        world.issue(world.new_client(), encryption=99)

    assert list(failure(error.value).fields) == ["encryption"]


def test_an_encrypted_token_expires_as_others_do(world: World) -> None:
    token = world.issue(world.new_client(), encryption=SERVICE).access_token
    assert world.reason(token) == ""

    world.clock.advance(minutes=16)

    assert world.reason(token) == "EXPIRED"


def test_an_encrypted_token_is_revoked_by_itself(world: World) -> None:
    client = world.new_client()
    token, other = (world.issue(client, encryption=SERVICE).access_token for _ in range(2))

    world.revoke(token=token)

    assert (world.reason(token), world.reason(other)) == ("REVOKED", "")


def test_a_changed_token_is_not_opened_and_revokes_nothing(world: World) -> None:
    token = world.issue(world.new_client(), encryption=SERVICE).access_token
    parts = token.split(".")
    changed = ".".join([*parts[:4], parts[4][::-1]])

    with pytest.raises(grpc.RpcError) as error:
        world.revoke(token=changed)

    assert failure(error.value).reason == "TOKEN_NOT_OPENABLE"
    assert (world.reason(changed), world.reason(token)) == ("UNDECRYPTABLE", "")


def test_a_caller_may_show_an_encrypted_token(world: World) -> None:
    wanted = {"scopes": ["identity.admin"], "encryption": SERVICE}
    token = world.issue(world.admin, **wanted).access_token

    assert Administrator(world, token).call("ListClients").clients
    with pytest.raises(grpc.RpcError) as error:
        world.stub.Revoke(pb.RevokeRequest(everything=True), metadata=bearer(token[:-1]))
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_an_encrypted_subject_token_is_exchanged(world: World) -> None:
    shop = Shop(world)
    subject = shop.sign_in(encryption=SERVICE).access_token

    signed, encrypted = (shop.exchange(subject, encryption=how).access_token for how in (0, SERVICE))

    assert (signed.count("."), encrypted.count(".")) == (2, 4)
    assert shop.whys(subject, signed, encrypted) == ["", "", ""]
    actor = world.verify(encrypted, audiences=[], any_audience=True).verified.actors[0]
    assert actor.subject == "orders"


def test_a_session_goes_on_as_it_began(world: World) -> None:
    user = world.new_user()
    for how, dots in ((SERVICE, 4), (token_pb2.TOKEN_ENCRYPTION_NONE, 2)):
        first = world.issue(user, encryption=how)
        second = world.refresh(first.refresh_token)
        third = world.refresh(second.refresh_token)

        tokens = [first.access_token, second.access_token, third.access_token]
        assert [token.count(".") for token in tokens] == [dots] * 3
        assert [world.reason(token) for token in tokens] == [""] * 3


# Keys of the service


def test_keys_to_encrypt_with_are_not_published(world: World) -> None:
    assert list(keys(world, ENCRYPT).values()) == ["SIGNING", "PENDING"]
    assert not {key.key_id for key in published(world).keys} & keys(world, ENCRYPT).keys()


def test_a_former_encryption_key_still_decrypts_its_tokens(world: World) -> None:
    client = world.new_client()
    first, second = keys(world, ENCRYPT)
    world.clock.advance(hours=2)
    before = world.issue(client, encryption=SERVICE).access_token
    caller = Administrator(world, world.admin_token(scopes=["identity.admin"]))

    caller.call("RotateKeys", purpose=ENCRYPT)
    after = world.issue(client, encryption=SERVICE).access_token

    assert (header(before)["kid"], header(after)["kid"]) == (first, second)
    assert world.reason(before) == world.reason(after) == ""
    assert list(keys(world, ENCRYPT).values()) == ["VERIFYING", "SIGNING", "PENDING"]


def test_a_store_from_before_there_was_encryption_gets_its_key(world: World) -> None:
    principal = world.new_client()
    for key_id in keys(world, ENCRYPT):
        world.store.records.delete(RecordKind.KEY, key_id)
    until(lambda: not keys(world, ENCRYPT))
    with pytest.raises(grpc.RpcError) as error:
        world.issue(principal, encryption=SERVICE)
    assert failure(error.value).code is grpc.StatusCode.UNAVAILABLE

    look_after(world)

    assert world.reason(world.issue(principal, encryption=SERVICE).access_token) == ""


def test_a_key_is_forgotten_once_nothing_lives_that_it_opens(world: World) -> None:
    first, second = keys(world, ENCRYPT)
    world.clock.advance(days=32)
    look_after(world)
    look_after(world)

    left = keys(world, ENCRYPT)
    assert (first in left, left[second]) == (False, "SIGNING")


def test_the_token_inside_one_encrypted_with_a_retired_key_is_refused_too(
    world: World, admin: Administrator
) -> None:
    client = world.new_client()
    first, second = keys(world, ENCRYPT)
    seen, unseen = (world.issue(client, encryption=SERVICE).access_token for _ in range(2))
    signed_only = world.issue(client).access_token
    inside = taken_out(world, unseen)
    assert world.reason(seen) == world.reason(inside) == ""

    answer = admin.call("RetireKey", key_id=first, reason="it leaked")

    assert (answer.key.key_id, answer.key.purpose) == (second, ENCRYPT)
    reasons = [world.reason(token) for token in (seen, inside, unseen)]
    assert reasons == ["REVOKED", "REVOKED", "UNDECRYPTABLE"]
    after = world.issue(client, encryption=SERVICE).access_token
    assert header(after)["kid"] == second
    assert world.reason(after) == world.reason(signed_only) == ""


def test_a_token_exchanged_for_one_of_a_retired_key_is_refused(world: World) -> None:
    shop = Shop(world)
    subject = shop.sign_in(encryption=SERVICE).access_token
    exchanged = shop.exchange(subject).access_token
    other = shop.exchange(shop.sign_in().access_token).access_token
    caller = Administrator(world, world.admin_token(scopes=["identity.admin"]))

    caller.call("RetireKey", key_id=header(subject)["kid"])

    assert shop.whys(exchanged, other) == ["REVOKED", ""]


# To an audience


@pytest.mark.parametrize(
    "key",
    [
        DecryptionKey(ECKey.generate_key("P-256").as_dict(private=True), algorithm="ECDH-ES"),
        DecryptionKey(ECKey.generate_key("P-384").as_dict(private=True), algorithm="ECDH-ES+A128KW"),
        DecryptionKey(ECKey.generate_key("P-521").as_dict(private=True)),
        DecryptionKey(OKPKey.generate_key("X25519").as_dict(private=True)),
        DecryptionKey(RSAKey.generate_key(2048).as_dict(private=True)),
    ],
    ids=lambda key: f"{key.algorithm}-{key._curve}",
)
def test_an_audience_decrypts_a_token_encrypted_to_it_and_verifies_it(
    world: World, key: DecryptionKey
) -> None:
    new_audience(world, key)
    token = world.issue(world.new_client(), encryption=AUDIENCE, audiences=[API]).access_token

    assert header(token)["alg"] == key.algorithm
    with IdentityClient(world.target, decryption_keys=[API_KEY, key]) as client:
        outcome = client.verify(token, audiences=[API])
        (batched,) = client.verify_batch([pb.VerifyRequest(token=token, audiences=[API])])
    assert isinstance(outcome, Verified)
    assert isinstance(batched, Verified)
    assert outcome.subject == batched.subject == "reports"
    assert world.reason(key.decrypt(token)) == ""


def test_no_other_audience_decrypts_it(world: World) -> None:
    new_audience(world)
    token = world.issue(world.new_client(), encryption=AUDIENCE).access_token
    other = DecryptionKey(ECKey.generate_key("P-256").as_dict(private=True), key_id="api-1")

    assert world.reason(token) == "UNDECRYPTABLE"
    with IdentityClient(world.target, decryption_keys=[other]) as client:
        outcome = client.verify(token, audiences=[API])
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "UNDECRYPTABLE"


def test_the_service_revokes_it_by_its_id(world: World) -> None:
    new_audience(world)
    issued = world.issue(world.new_client(), encryption=AUDIENCE)
    inside = API_KEY.decrypt(issued.access_token)

    with pytest.raises(grpc.RpcError) as error:
        world.revoke(token=issued.access_token)
    assert failure(error.value).reason == "TOKEN_NOT_OPENABLE"
    assert world.reason(inside) == ""
    world.revoke(world.admin_token(), token_id=issued.token_id)

    assert world.reason(inside) == "REVOKED"


def test_a_token_to_an_audience_needs_its_key(world: World) -> None:
    client = world.new_client()
    assert "a client with the id of the audience and an encryption_key" in not_possible(
        world, client
    )  # there is no such client
    new_audience(world)
    until(lambda: not _why_not(world, client))
    assert world.issue(client, encryption=AUDIENCE).access_token.count(".") == 4
    set_key(world, None)

    until(lambda: "a client with the id of the audience and an encryption_key" in _why_not(world, client))


def _why_not(world: World, principal: Principal) -> str:
    """Return the reason why an encrypted token is refused, or "" if it is issued.

    A test calls this repeatedly, because a thread of the service applies a change a moment later.
    """
    try:
        world.issue(principal, encryption=AUDIENCE)
    except grpc.RpcError as error:
        return failure(error).fields["encryption"]
    return ""


def test_a_disabled_client_gets_nothing_encrypted_to_it(world: World) -> None:
    client, api = world.new_client(), new_audience(world)
    assert world.issue(client, encryption=AUDIENCE).access_token.count(".") == 4

    world.disable_client(api)

    until(lambda: "a client with the id of the audience and an encryption_key" in _why_not(world, client))


def test_a_token_to_an_audience_has_one_audience(world: World) -> None:
    new_audience(world)
    client = world.new_client(audiences=(API, "other"))

    assert "exactly one audience" in not_possible(world, client, audiences=[API, "other"])
    token = world.issue(client, encryption=AUDIENCE, audiences=[API]).access_token
    assert world.reason(API_KEY.decrypt(token)) == ""


def test_a_sign_in_that_cannot_be_encrypted_starts_no_session(world: World) -> None:
    user = world.new_user()
    assert "a client with the id of the audience and an encryption_key" in not_possible(world, user)

    caller = Administrator(world, world.admin_token(scopes=["identity.admin"]))
    assert not caller.call("ListSessions", subject=user.id).sessions


def test_a_refresh_that_cannot_be_encrypted_changes_nothing(world: World) -> None:
    new_audience(world)
    first = world.issue(world.new_user(), encryption=AUDIENCE)
    set_key(world, None)
    until(lambda: bool(_why_not(world, world.user())))

    with pytest.raises(grpc.RpcError) as error:
        world.refresh(first.refresh_token)
    assert failure(error.value).reason == "ENCRYPTION_NOT_POSSIBLE"
    set_key(world, API_KEY.public_jwk())
    until(lambda: not _why_not(world, world.user()))
    second = world.refresh(first.refresh_token)

    assert world.reason(API_KEY.decrypt(second.access_token)) == ""
    assert world.refresh(second.refresh_token).access_token.count(".") == 4


def test_an_exchanged_token_is_encrypted_to_the_next_audience(world: World) -> None:
    shop = Shop(world)
    new_audience(world, client_id="stock-api")
    exchanged = shop.exchange(shop.sign_in().access_token, encryption=AUDIENCE).access_token

    assert shop.why(API_KEY.decrypt(exchanged)) == ""
    assert shop.why(exchanged) == "UNDECRYPTABLE"


# Registering


def test_a_key_is_registered_changed_and_removed(world: World, admin: Administrator) -> None:
    other = DecryptionKey(RSAKey.generate_key(2048).as_dict(private=True))
    made = admin.call("CreateClient", client={"client_id": "files", "encryption_key": API_KEY.public_jwk()})
    assert made.client.encryption_key == API_KEY.public_jwk()
    for wanted in (other.public_jwk(), ""):
        changed = {"client_id": "files", "encryption_key": wanted}
        admin.call("UpdateClient", client=changed, update_mask={"paths": ["encryption_key"]})

        assert admin.call("GetClient", client_id="files").client.encryption_key == wanted


@pytest.mark.parametrize(
    "key",
    [
        "{}",
        "x" * 4097,
        json.dumps(json.loads(API_KEY.public_jwk()) | {"alg": "RSA1_5"}),
        json.dumps(json.loads(API_KEY.public_jwk()) | {"d": "AQ"}),
        json.dumps(json.loads(API_KEY.public_jwk()) | {"use": "sig"}),
    ],
)
def test_a_key_that_tokens_cannot_be_encrypted_to_is_refused(admin: Administrator, key: str) -> None:
    client = {"client_id": "files", "encryption_key": key}

    assert admin.invalid("CreateClient", client=client) == ["client.encryption_key"]
