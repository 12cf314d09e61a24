"""The servicer of TrustService: each method converts, calls a use case, and converts the result."""

from dataclasses import dataclass
from datetime import timedelta

from identity_service.domain.ports import ReplicaView
from identity_service.grpc_api.calls import Call
from identity_service.grpc_api.engine import ResponseStream
from identity_service.grpc_api.issue import to_revision
from identity_service.grpc_api.senders import Senders
from identity_service.grpc_api.trust_messages import from_keys
from identity_service.services.keyring import KeyRing
from identity_service.services.watch import WatchHub
from identityapi.v1 import trust_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class TrustServicer:
    """The servicer of TrustService. GetKeys answers from memory; Watch hands its stream to the senders."""

    keys: KeyRing
    replica: ReplicaView
    hub: WatchHub
    senders: Senders
    max_age: timedelta
    """The time for which clients may cache the keys."""

    def get_keys(self, request: pb.GetKeysRequest, _call: Call) -> pb.GetKeysResponse:
        """Return the public signing keys, unless the client has the current set already."""
        # An empty set before the first load would be wrong. After it, keys are served however stale they are.
        self.replica.require_ready()
        key_set = from_keys(self.keys.published(), self.max_age)
        known = request.etag and request.etag == key_set.etag
        return pb.GetKeysResponse(key_set=None if known else key_set, revision=str(self.replica.revision))

    def watch(self, request: pb.WatchRequest, call: Call, stream: ResponseStream) -> None:
        """Send the live revocations, then every change and heartbeats, until the stream ends.

        With `resume_after`, send the changes after that revision in place of the live revocations. Raises
        InvalidRequestError.
        """
        rule = "must be a revision that Watch returned"
        resume_after = to_revision("resume_after", request.resume_after, rule)
        watcher = self.hub.open(resume_after, self.senders.wake)
        self.senders.add(watcher, stream, call.request_id, lambda: self.hub.close(watcher))
