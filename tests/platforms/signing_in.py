"""Signs in with a platform's token. The module asserts nothing."""

import grpc

from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.rpc.world import World, failure


def outcome(world: World, jwt: str) -> str:
    """Return the reason why the token is refused, or "" if it authenticates a client."""
    credential = token_pb2.Credential(federated_token=token_pb2.FederatedToken(jwt=jwt))
    try:
        issued = world.stub.Issue(pb.IssueRequest(credential=credential)).token_set
    except grpc.RpcError as error:
        return failure(error).reason
    return world.reason(issued.access_token)
