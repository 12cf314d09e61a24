"""The servicer of IdentityService: convert, call, convert."""

import grpc

from identity_service.domain.ports import ReplicaView
from identity_service.grpc_api import answers, convert
from identity_service.grpc_api.calls import Call
from identity_service.services.issue import Issuer
from identity_service.services.refresh import Refresher
from identity_service.services.revoke import Revoker
from identity_service.services.verify import Verifier
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as rpc

Context = grpc.ServicerContext


class IdentityServicer(rpc.IdentityServiceServicer):
    """Verify and VerifyBatch answer with serialized messages, which the pipeline passes on."""

    def __init__(
        self,
        issuer: Issuer,
        verifier: Verifier[bytes],
        refresher: Refresher,
        revoker: Revoker,
        replica: ReplicaView,
    ) -> None:
        self._issuer = issuer
        self._verifier = verifier
        self._refresher = refresher
        self._revoker = revoker
        self._replica = replica
        self._revision = answers.RevisionField()

    def Issue(  # type: ignore[override]
        self, request: pb.IssueRequest, call: Call
    ) -> pb.IssueResponse:
        tokens = self._issuer.issue(convert.to_issue(request, call.origin))
        return pb.IssueResponse(token_set=answers.from_token_set(tokens))

    def Verify(self, request: pb.VerifyRequest, context: Context) -> bytes:  # type: ignore[override]
        wanted = convert.to_verify(request)
        # The revision is read before the token is checked: it may understate what is known, never overstate.
        self._verifier.prepare(wanted)
        revision = self._revision.of(self._replica.revision)
        return answers.verify_response(self._verifier.verify(wanted), revision)

    def VerifyBatch(self, request: pb.VerifyBatchRequest, context: Context) -> bytes:  # type: ignore[override]
        wanted = convert.to_verify_batch(request)
        self._verifier.prepare(*wanted)
        revision = self._revision.of(self._replica.revision)
        verify = self._verifier.verify
        return answers.verify_batch_response(
            [answers.verify_response(verify(single), revision) for single in wanted]
        )

    def Refresh(  # type: ignore[override]
        self, request: pb.RefreshRequest, call: Call
    ) -> pb.RefreshResponse:
        tokens = self._refresher.refresh(convert.to_refresh(request, call.origin))
        return pb.RefreshResponse(token_set=answers.from_token_set(tokens))

    def Revoke(  # type: ignore[override]
        self, request: pb.RevokeRequest, call: Call
    ) -> pb.RevokeResponse:
        return pb.RevokeResponse(revision=str(self._revoker.revoke(convert.to_revoke(request, call.origin))))
