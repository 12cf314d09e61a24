"""A hub of Watch with its replica, clock and watchers, for the tests of the hub. Asserts nothing.

The real renderer writes the messages, and tests parse them, so that merged messages are covered.
"""

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from identity_service.domain.ids import NO_LINK, Epoch, KeyId, Link, TokenId
from identity_service.domain.keys import KeyPurpose, KeyState, PublishedKey
from identity_service.domain.log import (
    Change,
    LogEntry,
    Revision,
    TokenDenied,
)
from identity_service.grpc_api.trust_messages import WatchRenderer
from identity_service.replication.history import History
from identity_service.services.watch import WatchHub
from identity_service.services.watcher import Watcher
from identityapi.v1 import trust_service_pb2 as pb
from tests.fakes.clocks import FakeClock
from tests.fakes.replicas import FakeReplica

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = PublishedKey(
    key_id=KeyId("k1"),
    purpose=KeyPurpose.SIGN,
    algorithm="ES256",
    public_jwk='{"kid": "k1"}',
    create_time=NOW,
    activate_time=NOW,
    state=KeyState.SIGNING,
)


class Keys:
    """The part of a key ring that the hub reads."""

    def __init__(self) -> None:
        self.keys = [KEY]

    def published(self) -> list[PublishedKey]:
        return self.keys


class Site:
    """A hub with its replica and clock, and the watchers that it has notified."""

    def __init__(self, **config: int) -> None:
        self.keys, self.clock, self.woken = Keys(), FakeClock(NOW), list[Watcher]()
        self.replica = FakeReplica(self.clock)
        self.replica.confirmed -= 0.25
        keys: Any = self.keys
        renderer = WatchRenderer(timedelta(minutes=5))
        self.hub = WatchHub(self.replica, keys, self.clock, renderer, **config)
        self.hub.on_log_replaced(self.replica.revision)  # as the replica does when it begins to read

    def fold(self, *changes: Change) -> Revision:
        """Pass one page of the log to the hub."""
        position = self.replica.revision.position
        links = [(change, link_of(position + n)) for n, change in enumerate(changes, start=1)]
        for change, link in links:
            self.replica.revocations.apply(change, link)
        self.replica.revision = at(position + len(changes), self.replica.revision.epoch)
        entries = (LogEntry(position + n, link, NO_LINK, change) for n, (change, link) in enumerate(links, 1))
        self.replica.history.add(entries, self.replica.revision)
        self.hub.on_changes(self.replica.revision, links)
        return self.replica.revision

    def deny(self, *ids: str) -> Revision:
        return self.fold(*(denied(id_) for id_ in ids))

    def replace_log(self, epoch: str = "e2") -> None:
        self.replica.revision = at(0, epoch)
        self.replica.history = History(Epoch(epoch))
        self.hub.on_log_replaced(self.replica.revision)

    def open(self, resume_after: Revision | None = None) -> Watcher:
        return self.hub.open(resume_after, self.woken.append)


def at(position: int, epoch: str = "e1") -> Revision:
    return Revision(epoch=Epoch(epoch), position=position, link=link_of(position))


def link_of(position: int) -> Link:
    return Link(f"link-{position}") if position else NO_LINK


def denied(id_: str) -> TokenDenied:
    return TokenDenied(token_id=TokenId(id_), deny_until=NOW)


def taken(watcher: Watcher) -> list[pb.WatchResponse]:
    """Return the messages that wait for this watcher."""
    return [pb.WatchResponse.FromString(message) for message in iter(watcher.take, None)]


def ids(messages: Iterable[pb.WatchResponse]) -> list[str]:
    """Return the ids of tokens, sessions and principals in the messages, in their order."""
    found = []
    for revocation in itertools.chain.from_iterable(message.revocations for message in messages):
        kind = getattr(revocation, revocation.WhichOneof("kind") or "")
        found.append(getattr(kind, kind.DESCRIPTOR.fields[0].name))
    return found
