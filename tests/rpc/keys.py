"""The keys of a service, as ListKeys and GetKeys return them. The module asserts nothing."""

import jwt

from identityapi.v1 import trust_service_pb2 as trust_pb
from identityapi.v1 import trust_service_pb2_grpc as trust_rpc
from tests.rpc.administrator import Administrator
from tests.rpc.world import World


def signed_with(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def keys(world: World, purpose: trust_pb.KeyPurpose = trust_pb.KEY_PURPOSE_SIGN) -> dict[str, str]:
    """Return the states of the keys of a purpose by key id, the oldest key first.

    A new token of the administrator authenticates the call.
    """
    caller = Administrator(world, world.admin_token(scopes=["identity.admin"]))
    found = [key for key in caller.call("ListKeys").keys if key.purpose == purpose]
    return {key.key_id: trust_pb.KeyState.Name(key.state).removeprefix("KEY_STATE_") for key in found}


def published(world: World, etag: str = "") -> trust_pb.KeySet:
    stub = trust_rpc.TrustServiceStub(world.channel)
    return stub.GetKeys(trust_pb.GetKeysRequest(etag=etag)).key_set


def look_after(world: World) -> None:
    """Run the maintenance of the keys once, which a thread of the service runs every few seconds."""
    world.service._use.rotation.maintain()
