"""The servicer of TrustService: each method converts, calls a use case, and converts the result."""

from datetime import timedelta

from identity_service.domain.errors import InvalidRequestError
from identity_service.domain.log import Revision
from identity_service.domain.ports import ReplicaView
from identity_service.grpc_api.calls import Call
from identity_service.grpc_api.engine import ResponseStream
from identity_service.grpc_api.senders import Senders
from identity_service.grpc_api.trust_messages import from_keys
from identity_service.services.keyring import KeyRing
from identity_service.services.watch import WatchHub
from identityapi.v1 import trust_service_pb2 as pb


class TrustServicer:
    """The servicer of TrustService. GetKeys answers from memory; Watch hands its stream to the senders."""

    def __init__(
        self, keys: KeyRing, replica: ReplicaView, hub: WatchHub, senders: Senders, max_age: timedelta
    ) -> None:
        """Create the servicer; `max_age` is the time for which clients may cache the keys."""
        self._keys = keys
        self._replica = replica
        self._hub = hub
        self._senders = senders
        self._max_age = max_age

    def get_keys(self, request: pb.GetKeysRequest, _call: Call) -> pb.GetKeysResponse:
        """Return the public signing keys, unless the client has the current set already."""
        # An empty set before the first load would be wrong. After it, keys are served however stale they are.
        self._replica.require_ready()
        key_set = from_keys(self._keys.published(), self._max_age)
        known = request.etag and request.etag == key_set.etag
        return pb.GetKeysResponse(key_set=None if known else key_set, revision=str(self._replica.revision))

    def watch(self, request: pb.WatchRequest, call: Call, stream: ResponseStream) -> None:
        """Send the live revocations, then every change and heartbeats, until the stream ends."""
        watcher = self._hub.open(_to_resume(request), self._senders.wake)
        self._senders.add(watcher, stream, call.request_id, lambda: self._hub.close(watcher))


def _to_resume(request: pb.WatchRequest) -> Revision | None:
    """Return the revision to resume after; None = send everything that is live.

    Raises InvalidRequestError.
    """
    if not request.resume_after:
        return None
    try:
        return Revision.parse(request.resume_after)
    except ValueError:
        raise InvalidRequestError.of("resume_after", "must be a revision that Watch returned") from None
