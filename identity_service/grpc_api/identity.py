"""The servicer of IdentityService: each method converts, calls a use case, and converts the result.

Verify answers in bytes. The field `verified` is serialized once per token and cached with the token. A
response is that field followed by the field `revision`: protobuf allows serialized fields of one message to
be concatenated.
"""

from hashlib import blake2b
from typing import Final

from identity_service.domain.log import Revision
from identity_service.domain.ports import ReplicaView
from identity_service.domain.tokens import AccessToken, Actor, Rejected, RejectionReason
from identity_service.grpc_api import batches, convert
from identity_service.grpc_api.calls import Call
from identity_service.services.issue import Issuer
from identity_service.services.refresh import Refresher
from identity_service.services.repeated_issue import RepeatedIssue
from identity_service.services.revoke import Revoker
from identity_service.services.token_maker import TokenSet
from identity_service.services.verify import Verified, Verifier, VerifyRequest
from identity_service.telemetry.counters import Counter
from identity_shared.lru_cache import LruCache
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2

_CACHE_ENTRY_BYTES: Final = 500
"""The memory that a cached response takes beside its serialized text, in bytes."""
_MAX_RECALLED_BATCH: Final = 200
"""The largest number of requests of a batch that `recall_batch` answers in one step.

This occupies an event loop for at most a millisecond.
"""


class VerifyCounts:
    """The results of Verify and VerifyBatch, one for each token."""

    def __init__(self) -> None:
        self.recalled = Counter()
        """The tokens that are valid, and whose response was cached."""
        self.verified = Counter()
        """The tokens that are valid, and whose response was not cached."""
        self.rejected = {reason: Counter() for reason in RejectionReason}


class IdentityServicer:
    """The servicer of IdentityService. Verify and VerifyBatch return serialized messages."""

    def __init__(
        self,
        issuer: Issuer,
        repeated_issue: RepeatedIssue,
        verifier: Verifier[bytes],
        refresher: Refresher,
        revoker: Revoker,
        replica: ReplicaView,
        *,
        cache_bytes: int,
    ) -> None:
        self._issuer = issuer
        self._repeated_issue = repeated_issue
        self._verifier = verifier
        self._refresher = refresher
        self._revoker = revoker
        self._replica = replica
        self._revision_field: tuple[Revision | None, bytes] = (None, b"")
        """The last revision, and the serialized field `revision` of a VerifyResponse with it."""
        self._answered: LruCache[bytes, Verified[bytes]] = LruCache(cache_bytes)
        self.counts = VerifyCounts()

    def issue(self, request: pb.IssueRequest, call: Call) -> pb.IssueResponse:
        """Issue tokens for a credential."""
        digest = blake2b(call.data).digest()
        tokens = self._issuer.issue(convert.to_issue(request, call.origin_with_proof, digest))
        return pb.IssueResponse(token_set=from_token_set(tokens))

    def repeat_issue(self, data: bytes, peer: str, request_id: str) -> pb.IssueResponse | None:
        """Issue tokens for a request whose bytes equal those of one that was granted; None = decide it."""
        tokens = self._repeated_issue.issue(blake2b(data).digest(), peer, request_id)
        return None if tokens is None else pb.IssueResponse(token_set=from_token_set(tokens))

    def recall_verify(self, data: bytes) -> bytes | None:
        """Return the cached response to the same bytes if its token is still valid, else None.

        Equal bytes are the same request about the same token, so only expiry and revocations are checked
        again.
        """
        # Read the revision before the token is checked: it may understate what is known, never overstate.
        revision = self._serialized_revision()
        known = self._recall(data)
        if known is None:
            return None
        self.counts.recalled.increment()
        return known.rendered + revision

    def verify(self, request: pb.VerifyRequest, data: bytes) -> bytes:
        """Verify a token; a token that is not valid is an answer, not an error."""
        wanted = convert.to_verify(request)
        self._verifier.prepare(wanted)
        revision = self._serialized_revision()
        return self._verify(wanted, data, revision)

    def verify_now(self, request: pb.VerifyRequest, data: bytes) -> bytes | None:
        """Verify a token on an event loop; None = the request asks for a read of the log.

        Raises StoreReadRequiredError if the token names a generation that this process does not know yet, or
        was never seen and takes long to verify.
        """
        wanted = convert.to_verify(request, may_wait=False)
        if wanted.strong or wanted.at_least_revision is not None:
            return None
        return self._verify(wanted, data, self._serialized_revision())

    def recall_batch(self, data: bytes) -> bytes | None:
        """Return the cached response to a batch, or None.

        Returns None unless `recall_verify` has a response to every request, and if the batch has more than
        200 requests.
        """
        parts = batches.split(data, _MAX_RECALLED_BATCH)
        if not parts:
            return None
        revision = self._serialized_revision()
        responses = []
        for part in parts:
            known = self._recall(part)
            if known is None:
                return None
            responses.append(known.rendered + revision)
        self.counts.recalled.add(len(parts))
        return batches.join(responses)

    def verify_batch(self, request: pb.VerifyBatchRequest, data: bytes) -> bytes:
        """Verify each token of a batch; requests with a cached response are not verified again."""
        convert.check_batch(request)
        parts = batches.split(data, convert.MAX_BATCH) or [
            single.SerializeToString() for single in request.requests
        ]
        before = self._serialized_revision()
        responses = {
            index: known.rendered + before
            for index, part in enumerate(parts)
            if (known := self._recall(part)) is not None
        }
        asked = {
            index: convert.to_verify(request.requests[index], f"requests[{index}].")
            for index in range(len(parts))
            if index not in responses
        }
        self.counts.recalled.add(len(responses))
        came = self._verifier.prepare(*asked.values())
        revision = self._serialized_revision()
        for index, wanted in asked.items():
            responses[index] = self._verify(wanted, parts[index], revision, came)
        return batches.join(responses[index] for index in range(len(parts)))

    def _serialized_revision(self) -> bytes:
        """Return the serialized field `revision` of a VerifyResponse, for what this process knows now."""
        revision = self._replica.revision
        known, field = self._revision_field
        if known is not revision:
            field = pb.VerifyResponse(revision=str(revision)).SerializeToString()
            self._revision_field = (revision, field)
        return field

    def _recall(self, data: bytes) -> Verified[bytes] | None:
        """Return the cached result of a serialized VerifyRequest if its token is still valid, else None."""
        # Not SHA-256: OpenSSL's setup takes six times as long, which is half the cost of all the rest.
        known = self._answered.get(blake2b(data).digest())
        return known if known is not None and self._verifier.is_still_good(known) else None

    def _verify(
        self, wanted: VerifyRequest, data: bytes, revision: bytes, came: float | None = None
    ) -> bytes:
        """Return the serialized response; cache a positive result under the bytes of the request.

        A request that asks for a `strong` check or names a revision is not cached: each must consult the
        change log.
        """
        outcome = self._verifier.verify(wanted, came)
        counts = self.counts
        (counts.rejected[outcome.reason] if isinstance(outcome, Rejected) else counts.verified).increment()
        if isinstance(outcome, Verified) and not wanted.strong and wanted.at_least_revision is None:
            self._answered.put(blake2b(data).digest(), outcome, _CACHE_ENTRY_BYTES + len(outcome.rendered))
        return verify_response(outcome, revision)

    def refresh(self, request: pb.RefreshRequest, call: Call) -> pb.RefreshResponse:
        """Exchange a refresh token for new tokens of its session."""
        tokens = self._refresher.refresh(convert.to_refresh(request, call.origin_with_proof))
        return pb.RefreshResponse(token_set=from_token_set(tokens))

    def revoke(self, request: pb.RevokeRequest, call: Call) -> pb.RevokeResponse:
        """Revoke a token, a session, or everything of a principal; returns once the revocation is durable."""
        return pb.RevokeResponse(revision=str(self._revoker.revoke(convert.to_revoke(request, call.origin))))


def from_token_set(tokens: TokenSet) -> token_pb2.TokenSet:
    """Convert issued tokens."""
    # One assignment per field: the constructor, which also converts a datetime in Python, takes three times
    # as long (bar S6).
    converted = token_pb2.TokenSet()
    converted.access_token = tokens.access_token
    converted.token_type = tokens.token_type
    converted.expire_time.seconds = int(tokens.expire_time.timestamp())  # whole seconds, as in the token
    converted.audiences.extend(tokens.audiences)
    converted.scopes.extend(tokens.scopes)
    converted.token_id = tokens.token_id
    if tokens.refresh_token is not None:
        converted.refresh_token = tokens.refresh_token
    if tokens.refresh_expire_time is not None:
        converted.refresh_expire_time.FromDatetime(tokens.refresh_expire_time)
    if tokens.session_id is not None:
        converted.session_id = tokens.session_id
    return converted


def render(token: AccessToken) -> bytes:
    """Return a serialized VerifyResponse that holds only the field `verified`: the claims of this token."""
    verified = token_pb2.VerifiedToken(
        issuer=token.issuer,
        subject=token.subject,
        audiences=token.audiences,
        client_id=token.client_id,
        scopes=token.scopes,
        token_id=token.token_id,
        session_id=token.session_id,
        issue_time=token.issue_time,
        expire_time=token.expire_time,
        auth_time=token.auth_time,
        actors=map(_from_actor, token.actors),
        may_act=_from_actor(token.may_act) if token.may_act is not None else None,
        certificate_sha256=token.certificate_sha256,
        dpop_key_sha256=token.key_sha256,
        claims=token.claims or None,
    )
    return pb.VerifyResponse(verified=verified).SerializeToString()


def _from_actor(actor: Actor) -> token_pb2.Actor:
    return token_pb2.Actor(subject=actor.subject, client_id=actor.client_id)


def verify_response(outcome: Verified[bytes] | Rejected, revision: bytes) -> bytes:
    """Return a serialized VerifyResponse; `revision` is that field, serialized."""
    if isinstance(outcome, Verified):
        return outcome.rendered + revision
    rejected = pb.VerifyResponse(
        rejected=pb.Rejection(reason=f"REJECTION_REASON_{outcome.reason}", detail=outcome.detail)
    )
    return rejected.SerializeToString() + revision
