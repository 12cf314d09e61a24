"""Verify: from the bytes of a request to the bytes of its response, from the cache if it is there.

The field `verified` is serialized once per token and cached with the token. A response is that field followed
by the field `revision`: protobuf allows serialized fields of one message to be concatenated.
"""

import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final, NoReturn, Protocol, TypeAlias

from identity_service.domain.errors import InvalidRequestError
from identity_service.domain.grants import MAX_AUDIENCES, MAX_SCOPES
from identity_service.domain.log import Revision
from identity_service.domain.ports import ReplicaView
from identity_service.domain.tokens import Rejected, RejectionReason
from identity_service.grpc_api.calls import bind_trace, request_id_of
from identity_service.grpc_api.engine import Context, Instant, InstantResponse
from identity_service.grpc_api.issue import to_revision
from identity_service.grpc_api.method_spec import Cached
from identity_service.services.verify import StoreReadRequiredError, Verified, Verifier, VerifyRequest
from identity_service.telemetry.counters import Counter
from identity_shared.lru_cache import LruCache, weight_of_json
from identityapi.v1 import identity_service_pb2 as pb

Answer: TypeAlias = Callable[[bytes, Context], bytes]
_MAX_LOOKED_UP_NOW: Final = 64 * 1024
"""The longest request, in bytes, that an event loop or grpcio's serving thread looks up: a VerifyBatch of a
hundred tokens. Others are left to a thread, unread: to digest 16 MiB takes 18 ms, to parse them 200."""
_MAX_SERVED_NOW: Final = 16 * 1024
"""The longest request that an event loop parses, in bytes: the longest token fits, with room for the rest."""
_CACHE_ENTRY_BYTES: Final = 500
"""The memory that a cached response takes beside its serialized text and the extra claims of its token, in
bytes."""


class VerifyCounts:
    """The results of Verify and VerifyBatch, one for each token."""

    def __init__(self) -> None:
        self.recalled = Counter()
        """The tokens that are valid, and whose response was cached."""
        self.verified = Counter()
        """The tokens that are valid, and whose response was not cached."""
        self.rejected = {reason: Counter() for reason in RejectionReason}


class VerifyServicer:
    """The servicer of Verify. It returns serialized messages."""

    def __init__(self, verifier: Verifier[bytes], replica: ReplicaView, *, cache_bytes: int) -> None:
        self._verifier = verifier
        self._replica = replica
        self._revision_field: tuple[Revision | None, bytes] = (None, b"")
        """The last revision, and the serialized field `revision` of a VerifyResponse with it."""
        self._answered: LruCache[bytes, Verified[bytes]] = LruCache(cache_bytes)
        self.prepare = verifier.prepare
        self.counts = VerifyCounts()

    def recall_verify(self, data: bytes) -> bytes | None:
        """Return the cached response to the same bytes if its token is still valid, else None.

        Equal bytes are the same request about the same token, so only expiry and revocations are checked
        again.
        """
        # Read the revision before the token is checked: it may understate what is known, never overstate.
        revision = self.serialized_revision()
        known = self.recall(data)
        if known is None:
            return None
        self.counts.recalled.increment()
        return known.rendered + revision

    def verify(self, request: pb.VerifyRequest, data: bytes) -> bytes:
        """Verify a token; a token that is not valid is an answer, not an error."""
        wanted = to_verify(request)
        self._verifier.prepare(wanted)
        revision = self.serialized_revision()
        return self.answer(wanted, data, revision)

    def verify_now(self, request: pb.VerifyRequest, data: bytes) -> bytes | None:
        """Verify a token on an event loop; None = the request asks for a read of the log.

        Raises StoreReadRequiredError if the token names a generation that this process does not know yet, or
        was never seen and takes long to verify.
        """
        wanted = to_verify(request, may_wait=False)
        if wanted.strong or wanted.at_least_revision is not None:
            return None
        return self.answer(wanted, data, self.serialized_revision())

    def serialized_revision(self) -> bytes:
        """Return the serialized field `revision` of a VerifyResponse, for what this process knows now."""
        revision = self._replica.revision
        known, field = self._revision_field
        if known is not revision:
            field = pb.VerifyResponse(revision=str(revision)).SerializeToString()
            self._revision_field = (revision, field)
        return field

    def recall(self, data: bytes) -> Verified[bytes] | None:
        """Return the cached result of a serialized VerifyRequest if its token is still valid, else None."""
        # Not SHA-256: OpenSSL's setup takes six times as long, which is half the cost of all the rest.
        entry = self._answered.find(blake2b(data).digest())
        if entry is None or not self._verifier.is_still_good(entry.value):
            return None
        entry.used = True
        return entry.value

    def answer(self, wanted: VerifyRequest, data: bytes, revision: bytes, came: float | None = None) -> bytes:
        """Return the serialized response; cache a positive result under the bytes of the request.

        A request that asks for a `strong` check or names a revision is not cached: each must consult the
        change log.
        """
        outcome = self._verifier.verify(wanted, came)
        counts = self.counts
        (counts.rejected[outcome.reason] if isinstance(outcome, Rejected) else counts.verified).increment()
        if isinstance(outcome, Verified) and not wanted.strong and wanted.at_least_revision is None:
            weight = _CACHE_ENTRY_BYTES + len(outcome.rendered) + weight_of_json(outcome.token.claims)
            self._answered.put(blake2b(data).digest(), outcome, weight)
        return _response(outcome, revision)


def _response(outcome: Verified[bytes] | Rejected, revision: bytes) -> bytes:
    """Return a serialized VerifyResponse; `revision` is that field, serialized."""
    if isinstance(outcome, Verified):
        return outcome.rendered + revision
    rejected = pb.VerifyResponse(
        rejected=pb.Rejection(reason=f"REJECTION_REASON_{outcome.reason}", detail=outcome.detail)
    )
    return rejected.SerializeToString() + revision


def to_verify(request: pb.VerifyRequest, path: str = "", *, may_wait: bool = True) -> VerifyRequest:
    """Convert a request of Verify. Raises InvalidRequestError.

    `path` precedes the names of fields in errors, such as `requests[3].` in a batch. `may_wait` is False on
    an event loop.
    """
    audiences, scopes = request.audiences, request.required_scopes
    certificate, key = request.certificate_sha256, request.dpop_key_sha256
    if not audiences and not request.any_audience:
        raise InvalidRequestError.of(
            f"{path}audiences", "must name the audience of the verifier, or any_audience must be true"
        )
    if len(audiences) > MAX_AUDIENCES:
        raise InvalidRequestError.of(f"{path}audiences", f"must have at most {MAX_AUDIENCES} entries")
    if len(scopes) > MAX_SCOPES:
        raise InvalidRequestError.of(f"{path}required_scopes", f"must have at most {MAX_SCOPES} entries")
    if len(certificate) not in (0, 32):
        raise InvalidRequestError.of(f"{path}certificate_sha256", "must be the 32 bytes of a SHA-256")
    if len(key) not in (0, 32):
        raise InvalidRequestError.of(f"{path}dpop_key_sha256", "must be the 32 bytes of a SHA-256")
    least = request.at_least_revision
    rule = "must be a revision that Revoke returned"
    return VerifyRequest(
        token=request.token,
        audiences=audiences,
        any_audience=request.any_audience,
        required_scopes=scopes,
        at_least_revision=to_revision(f"{path}at_least_revision", least, rule) if least else None,
        strong=request.strong,
        certificate_sha256=certificate,
        key_sha256=key,
        may_wait=may_wait,
    )


class Steps(Protocol):
    """The steps of a call that the pipeline takes for every method."""

    def admit(
        self, method: str, spec: Cached[Any], data: bytes, context: Context, *, may_wait: bool = True
    ) -> tuple[Any, object]:
        """Return the parsed request, and the caller if the method requires one."""

    def fail(self, method: str, context: Context, error: Exception, id_: str, started: float) -> NoReturn:
        """Log and count the failure, and abort the call with the status of the error."""


def cached_answers(
    steps: Steps, method: str, spec: Cached[Any], *, caller_required: bool, count_ok: Callable[[float], None]
) -> tuple[Answer, Instant]:
    """Return the two functions of `UnaryHandler` for a method that answers from memory.

    They are here, beside Verify, so that a call whose response is cached passes through this module alone.
    Neither checks the deadline of such a call: that would cost more than the response.

    Args:
        steps: the steps of a call whose response is not cached, or whose caller must be authenticated.
        method: the full name of the method.
        spec: its entry in the table.
        caller_required: whether its callers must be authenticated.
        count_ok: counts a call that ended OK; takes its duration in seconds.
    """
    lookup, serve, serve_now, now = spec.lookup, spec.serve, spec.serve_now, time.perf_counter

    def answer(data: bytes, context: Context) -> bytes:
        started = now()
        try:
            admitted = steps.admit(method, spec, data, context) if caller_required else None
            response = None if lookup is None else lookup(data)
            if response is None:
                bind_trace(context)
                request, _ = admitted or steps.admit(method, spec, data, context)
                response = serve(request, data)
        except Exception as error:  # noqa: BLE001  # the table has a status for each
            steps.fail(method, context, error, request_id_of(context), started)
        count_ok(now() - started)
        return response

    def instant(data: bytes, context: Context) -> InstantResponse | None:
        if len(data) > _MAX_LOOKED_UP_NOW:
            return None
        started = now()
        try:
            admitted = steps.admit(method, spec, data, context, may_wait=False) if caller_required else None
            response = None if lookup is None else lookup(data)
            is_cached = response is not None
            if response is None and serve_now is not None and len(data) <= _MAX_SERVED_NOW:
                request, _ = admitted or steps.admit(method, spec, data, context)
                response = serve_now(request, data)
        except StoreReadRequiredError:  # the caller's token or the answer needs a read of the store
            return None
        except Exception as error:  # noqa: BLE001  # the table has a status for each
            steps.fail(method, context, error, request_id_of(context), started)
        if response is None:
            return None
        count_ok(now() - started)
        return response, is_cached

    return answer, instant
