"""The servicer of IdentityService: convert, call, convert."""

from hashlib import blake2b
from typing import Final

import grpc

from identity_service.domain.ports import ReplicaView
from identity_service.grpc_api import answers, convert
from identity_service.grpc_api.calls import Call, recalled_by
from identity_service.services.issue import Issuer
from identity_service.services.refresh import Refresher
from identity_service.services.revoke import Revoker
from identity_service.services.token_cache import RecentCache
from identity_service.services.verify import Verified, Verifier
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as rpc

Context = grpc.ServicerContext
_ANSWER_BYTES: Final = 500
"""What a remembered answer needs beside its text."""


class IdentityServicer(rpc.IdentityServiceServicer):
    """Verify and VerifyBatch answer with serialized messages, which the pipeline passes on."""

    def __init__(
        self,
        issuer: Issuer,
        verifier: Verifier[bytes],
        refresher: Refresher,
        revoker: Revoker,
        replica: ReplicaView,
        *,
        cache_bytes: int,
    ) -> None:
        self._issuer = issuer
        self._verifier = verifier
        self._refresher = refresher
        self._revoker = revoker
        self._replica = replica
        self._revision = answers.RevisionField()
        self._answered: RecentCache[bytes, Verified[bytes]] = RecentCache(cache_bytes)

    def Issue(  # type: ignore[override]
        self, request: pb.IssueRequest, call: Call
    ) -> pb.IssueResponse:
        tokens = self._issuer.issue(convert.to_issue(request, call.origin))
        return pb.IssueResponse(token_set=answers.from_token_set(tokens))

    def recall_verify(self, data: bytes) -> bytes | None:
        """The answer to a request that was answered well before, if time and the log leave it good.

        The same bytes ask the same of the same token, so nothing of that is compared again.
        """
        # Not SHA-256: OpenSSL takes six times as long to begin, half of what all the rest costs.
        known = self._answered.get(blake2b(data).digest())
        if known is None:
            return None
        # The revision is read before the token is checked: it may understate what is known, never overstate.
        revision = self._revision.of(self._replica.revision)
        return known.rendered + revision if self._verifier.is_still_good(known) else None

    @recalled_by(recall_verify)
    def Verify(self, request: pb.VerifyRequest, data: bytes) -> bytes:  # type: ignore[override]
        wanted = convert.to_verify(request)
        self._verifier.prepare(wanted)
        revision = self._revision.of(self._replica.revision)
        outcome = self._verifier.verify(wanted)
        if isinstance(outcome, Verified) and not wanted.strong and wanted.at_least_revision is None:
            self._answered.put(blake2b(data).digest(), outcome, _ANSWER_BYTES + len(outcome.rendered))
        return answers.verify_response(outcome, revision)

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
