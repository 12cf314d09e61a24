"""Converters of TrustService: keys, facts and heartbeats to wire messages. Implements the port Renderer."""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from identity_service.domain.ids import Link, base64url
from identity_service.domain.keys import KeyPurpose, KeyState, PublishedKey
from identity_service.domain.log import (
    Change,
    GenerationRaised,
    RecordChanged,
    Revision,
    SessionEnded,
    TokenDenied,
)
from identity_service.grpc_api.answers import timestamp
from identityapi.v1 import trust_service_pb2 as pb

_LONGEST_MAX_AGE: Final = timedelta(minutes=20)
_PURPOSES: Final = {
    KeyPurpose.SIGN: pb.KEY_PURPOSE_SIGN,
    KeyPurpose.REFRESH: pb.KEY_PURPOSE_REFRESH,
    KeyPurpose.ENCRYPT: pb.KEY_PURPOSE_ENCRYPT,
}
_STATES: Final = {
    KeyState.PENDING: pb.KEY_STATE_PENDING,
    KeyState.SIGNING: pb.KEY_STATE_SIGNING,
    KeyState.VERIFYING: pb.KEY_STATE_VERIFYING,
    KeyState.REVOKED: pb.KEY_STATE_REVOKED,
}
_RESTARTED: Final = pb.WatchResponse(restarted=True).SerializeToString()


def max_age(publish_before: timedelta) -> timedelta:
    """How long keys may be cached, so that a copy knows a key well before it signs."""
    return min(publish_before / 3, _LONGEST_MAX_AGE)


def from_keys(keys: Sequence[PublishedKey], max_age: timedelta) -> pb.KeySet:
    """A set of public keys; the etag is of the keys alone, not of what each is used for now."""
    jwks = json.dumps({"keys": [json.loads(key.public_jwk) for key in keys if key.public_jwk is not None]})
    message = pb.KeySet(jwks=jwks, etag=base64url(hashlib.sha256(jwks.encode()).digest()[:16]))
    message.max_age.FromTimedelta(max_age)
    message.keys.extend(map(from_key, keys))
    return message


def from_key(key: PublishedKey) -> pb.PublishedKey:
    return pb.PublishedKey(
        key_id=key.key_id,
        purpose=_PURPOSES[key.purpose],
        algorithm=key.algorithm,
        state=_STATES[key.state],
        jwk=key.public_jwk or "",
        create_time=timestamp(key.create_time),
        activate_time=timestamp(key.activate_time),
        expire_time=timestamp(key.expire_time) if key.expire_time is not None else None,
    )


class WatchRenderer:
    """Messages of Watch as bytes; those of changes and heartbeats may be joined end to end."""

    def __init__(self, max_age: timedelta) -> None:
        """`max_age` = how long keys may be cached."""
        self._max_age = max_age

    def changes(self, changes: Sequence[tuple[Change, Link]], revision: Revision | None) -> bytes:
        message = pb.WatchResponse(revision=str(revision or ""))
        for change, link in changes:
            _add(message, change, link)
        return message.SerializeToString()

    def restarted(self) -> bytes:
        return _RESTARTED

    def keys(self, keys: Sequence[PublishedKey]) -> bytes:
        return pb.WatchResponse(key_set=from_keys(keys, self._max_age)).SerializeToString()

    def heartbeat(self, revision: Revision, time: datetime, staleness: float) -> bytes:
        message = pb.WatchResponse(revision=str(revision), time=timestamp(time))
        message.staleness.FromMilliseconds(round(min(staleness, 1e9) * 1000))
        return message.SerializeToString()


def _add(message: pb.WatchResponse, change: Change, link: Link) -> None:
    match change:
        case TokenDenied():
            denied = message.revocations.add().denied_token
            denied.token_id = change.token_id
            denied.deny_until.CopyFrom(timestamp(change.deny_until))
        case SessionEnded():
            ended = message.revocations.add().ended_session
            ended.session_id = change.session_id
            ended.deny_until.CopyFrom(timestamp(change.deny_until))
        case GenerationRaised():
            raised = message.revocations.add().raised_generation
            raised.principal = change.principal
            raised.number = change.number
            raised.link = change.origin or link
        case RecordChanged():
            pass  # whoever needs the record reads it; keys come as a set
