"""Converters of TrustService: keys, facts and heartbeats to wire messages. Implements the port Renderer."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from identity_service.domain.ids import Link
from identity_service.domain.keys import KeyState, PublishedKey
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

_STATES: Final = {
    KeyState.PENDING: pb.KEY_STATE_PENDING,
    KeyState.SIGNING: pb.KEY_STATE_SIGNING,
    KeyState.VERIFYING: pb.KEY_STATE_VERIFYING,
}
_RESTARTED: Final = pb.WatchResponse(restarted=True).SerializeToString()


def from_keys(keys: Sequence[PublishedKey], max_age: timedelta) -> pb.KeySet:
    message = pb.KeySet(jwks=json.dumps({"keys": [json.loads(key.public_jwk) for key in keys]}))
    message.max_age.FromTimedelta(max_age)
    message.keys.extend(map(from_key, keys))
    return message


def from_key(key: PublishedKey) -> pb.PublishedKey:
    return pb.PublishedKey(
        key_id=key.key_id,
        algorithm=key.algorithm,
        state=_STATES[key.state],
        jwk=key.public_jwk,
        activate_time=timestamp(key.activate_time),
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
