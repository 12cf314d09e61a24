"""The servicer of IdentityService: convert, call, convert."""

from hashlib import blake2b
from typing import Final

import grpc

from identity_service.domain.ports import ReplicaView
from identity_service.grpc_api import answers, batches, convert
from identity_service.grpc_api.calls import Call, recalled_by
from identity_service.services.issue import Issuer
from identity_service.services.refresh import Refresher
from identity_service.services.revoke import Revoker
from identity_service.services.token_cache import RecentCache
from identity_service.services.verify import Verified, Verifier, VerifyRequest
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as rpc

Context = grpc.ServicerContext
_ANSWER_BYTES: Final = 500
"""What a remembered answer needs beside its text."""
_RECALLED_TOGETHER: Final = 200
"""Requests that are answered in one step, which holds up an event loop for a millisecond at most."""


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
        # The revision is read before the token is checked: it may understate what is known, never overstate.
        revision = self._revision.of(self._replica.revision)
        known = self._recall(data)
        return None if known is None else known.rendered + revision

    @recalled_by(recall_verify)
    def Verify(self, request: pb.VerifyRequest, data: bytes) -> bytes:  # type: ignore[override]
        wanted = convert.to_verify(request)
        self._verifier.prepare(wanted)
        revision = self._revision.of(self._replica.revision)
        return self._verify(wanted, data, revision)

    def recall_batch(self, data: bytes) -> bytes | None:
        """As `recall_verify`, where it holds for each request of a batch that is not very long."""
        parts = batches.split(data, _RECALLED_TOGETHER)
        if not parts:
            return None
        revision = self._revision.of(self._replica.revision)
        responses = []
        for part in parts:
            known = self._recall(part)
            if known is None:
                return None
            responses.append(known.rendered + revision)
        return batches.join(responses)

    @recalled_by(recall_batch)
    def VerifyBatch(self, request: pb.VerifyBatchRequest, data: bytes) -> bytes:  # type: ignore[override]
        convert.check_batch(request)
        parts = batches.split(data, convert.MAX_BATCH) or [
            single.SerializeToString() for single in request.requests
        ]
        before = self._revision.of(self._replica.revision)
        responses = {
            index: known.rendered + before
            for index, part in enumerate(parts)
            if (known := self._recall(part)) is not None
        }
        asked = {
            index: convert.to_verify_in_batch(request, index)
            for index in range(len(parts))
            if index not in responses
        }
        came = self._verifier.prepare(*asked.values())
        revision = self._revision.of(self._replica.revision)
        for index, wanted in asked.items():
            responses[index] = self._verify(wanted, parts[index], revision, came)
        return batches.join(responses[index] for index in range(len(parts)))

    def _recall(self, data: bytes) -> Verified[bytes] | None:
        """The token of a VerifyRequest that was answered well before, if it is still good."""
        # Not SHA-256: OpenSSL takes six times as long to begin, half of what all the rest costs.
        known = self._answered.get(blake2b(data).digest())
        return known if known is not None and self._verifier.is_still_good(known) else None

    def _verify(
        self, wanted: VerifyRequest, data: bytes, revision: bytes, came: float | None = None
    ) -> bytes:
        """The answer, which is remembered by the bytes of the request where it may be given again."""
        outcome = self._verifier.verify(wanted, came)
        if isinstance(outcome, Verified) and not wanted.strong and wanted.at_least_revision is None:
            self._answered.put(blake2b(data).digest(), outcome, _ANSWER_BYTES + len(outcome.rendered))
        return answers.verify_response(outcome, revision)

    def Refresh(  # type: ignore[override]
        self, request: pb.RefreshRequest, call: Call
    ) -> pb.RefreshResponse:
        tokens = self._refresher.refresh(convert.to_refresh(request, call.origin))
        return pb.RefreshResponse(token_set=answers.from_token_set(tokens))

    def Revoke(  # type: ignore[override]
        self, request: pb.RevokeRequest, call: Call
    ) -> pb.RevokeResponse:
        return pb.RevokeResponse(revision=str(self._revoker.revoke(convert.to_revoke(request, call.origin))))
