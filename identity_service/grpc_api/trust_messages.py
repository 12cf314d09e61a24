"""Converters of TrustService: keys, facts and heartbeats to wire messages. Implements the port Renderer."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from identity_service.domain.ids import Link
from identity_service.domain.keys import PublishedKey
from identity_service.domain.log import (
    Change,
    GenerationRaised,
    RecordChanged,
    Revision,
    SessionEnded,
    TokenDenied,
)
from identity_service.services.keyring import key_set_document
from identityapi.v1 import trust_service_pb2 as pb

_RESTARTED: Final = pb.WatchResponse(restarted=True).SerializeToString()


def from_keys(keys: Sequence[PublishedKey], max_age: timedelta) -> pb.KeySet:
    """Convert public keys to a KeySet."""
    document = key_set_document(keys)
    return pb.KeySet(jwks=document.jwks, etag=document.etag, max_age=max_age, keys=map(from_key, keys))


def from_key(key: PublishedKey) -> pb.PublishedKey:
    """Convert one key and its state, without secrets."""
    return pb.PublishedKey(
        key_id=key.key_id,
        purpose=f"KEY_PURPOSE_{key.purpose.name}",
        algorithm=key.algorithm,
        state=f"KEY_STATE_{key.state.name}",
        jwk=key.public_jwk or "",
        create_time=key.create_time,
        activate_time=key.activate_time,
        expire_time=key.expire_time,
    )


class WatchRenderer:
    """A serializer of the messages of Watch.

    Serialized changes and heartbeats may be concatenated to one message.
    """

    def __init__(self, max_age: timedelta) -> None:
        """Create a renderer; `max_age` is the time for which watchers may cache the keys."""
        self._max_age = max_age

    def changes(self, changes: Sequence[tuple[Change, Link]], revision: Revision | None) -> bytes:
        """Return the message of these changes; `revision` is the place up to which all has been sent."""
        message = pb.WatchResponse(revision=str(revision or ""))
        for change, link in changes:
            _add(message, change, link)
        return message.SerializeToString()

    def restarted(self) -> bytes:
        """Return the message that precedes everything that is live."""
        return _RESTARTED

    def keys(self, keys: Sequence[PublishedKey]) -> bytes:
        """Return the message of the public keys, which replace the ones sent before."""
        return pb.WatchResponse(key_set=from_keys(keys, self._max_age)).SerializeToString()

    def heartbeat(self, revision: Revision, time: datetime, staleness: float) -> bytes:
        """Return a heartbeat; `staleness` in seconds."""
        shown = timedelta(milliseconds=round(min(staleness, 1e9) * 1000))
        return pb.WatchResponse(revision=str(revision), time=time, staleness=shown).SerializeToString()


def _add(message: pb.WatchResponse, change: Change, link: Link) -> None:
    match change:
        case TokenDenied():
            denied = pb.DeniedToken(token_id=change.token_id, deny_until=change.deny_until)
            message.revocations.add(denied_token=denied)
        case SessionEnded():
            ended = pb.EndedSession(session_id=change.session_id, deny_until=change.deny_until)
            message.revocations.add(ended_session=ended)
        case GenerationRaised():
            raised = pb.RaisedGeneration(
                principal=change.principal, number=change.number, link=change.origin or link
            )
            message.revocations.add(raised_generation=raised)
        case RecordChanged():
            pass  # records are not sent to watchers; keys are sent as a set
