"""Sample records, sessions and calls for the suite: every field has a value."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from identity_service.domain.audit import AuditEvent, AuditFilter, AuditOutcome, AuditType
from identity_service.domain.ids import (
    Epoch,
    KeyId,
    Link,
    PrincipalId,
    SessionId,
    TokenId,
    new_session_id,
    new_token_id,
)
from identity_service.domain.issuers import TrustedIssuer, TrustRule
from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.log import Generation, LogEntry, RecordKind, Revision
from identity_service.domain.principals import Client, Grant, OnReuse, StoredSecret, User
from identity_service.domain.records import Record, Versioned
from identity_service.domain.sessions import Session
from identity_service.domain.store import Store

TIME = datetime(2100, 1, 1, 12, 30, 15, 250_000, tzinfo=UTC)
SOON = datetime(2100, 1, 1, 1, tzinfo=UTC)
LATER = datetime(2100, 1, 2, tzinfo=UTC)
MUCH_LATER = datetime(2100, 2, 1, tzinfo=UTC)


def a_client(client_id: str = "billing", **changes: Any) -> Client:
    values: dict[str, Any] = {
        "display_name": 'Billing "nightly" \\ \N{SNOWMAN}',
        "secrets": (
            StoredSecret(digest=b"\x00\xff" * 16),
            StoredSecret(digest=b"b" * 32, create_time=TIME, expire_time=TIME),
        ),
        "grants": frozenset({Grant.CLIENT_CREDENTIALS, Grant.REFRESH_TOKEN}),
        "audiences": frozenset({"orders", "https://stock.example"}),
        "scopes": frozenset({"orders.read", "orders.write"}),
        "certificates": frozenset({f"spiffe://example/{client_id}", f"dns:{client_id}.example"}),
        "public_keys": ('{"kty":"EC","kid":"a"}', '{"kty":"EC","kid":"b"}'),
        "require_binding": True,
        "exchange_audiences": frozenset({"orders"}),
        "encryption_key": '{"kty":"EC","kid":"e"}',
        "max_lifetime": timedelta(minutes=5),
        "on_reuse": OnReuse.REFUSE,
        "disabled": True,
        "create_time": TIME,
    }
    return Client(client_id=PrincipalId(client_id), **(values | changes))


def a_user(user_id: str = "u_1", username: str = "alice", **changes: Any) -> User:
    values: dict[str, Any] = {
        "display_name": "Alice",
        "password_hash": "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA",
        "audiences": frozenset({"orders"}),
        "scopes": frozenset({"orders.read"}),
        "disabled": True,
        "create_time": TIME,
    }
    return User(user_id=PrincipalId(user_id), username=username, **(values | changes))


def a_key(key_id: str = "key-1", **changes: Any) -> StoredKey:
    values: dict[str, Any] = {
        "purpose": KeyPurpose.SIGN,
        "algorithm": "ES256",
        "public_jwk": '{"kty":"EC"}',
        "sealed": "a.b.c.d.e",
        "create_time": TIME,
        "activate_time": TIME + timedelta(hours=1),
    }
    return StoredKey(key_id=KeyId(key_id), **(values | changes))


def a_session(session_id: str | None = None, **changes: Any) -> Session:
    values: dict[str, Any] = {
        "subject": PrincipalId("u_1"),
        "client_id": PrincipalId("billing"),
        "audiences": ("orders", "stock"),
        "scopes": ("orders.write", "orders.read"),
        "lifetime": timedelta(minutes=15),
        "claims": {"tenant": "t1", "nested": {"list": [1, 2.5, None, True, "é"]}},
        "generations": {PrincipalId("u_1"): Generation(number=3, link=Link("l-3"))},
        "auth_time": TIME,
        "expire_time": MUCH_LATER,
        "device": "Alice\N{RIGHT SINGLE QUOTATION MARK}s laptop",
        "peer": "192.0.2.1:5000",
        "certificate_sha256": b"\x01\xfe" * 16,
        "key_sha256": b"\x02\xfd" * 16,
        "refresh_time": TIME + timedelta(minutes=1),
        "key_id": KeyId("refresh-1"),
        "latest": 7,
        "parent": 6,
        "rotate_times": {6: TIME, 5: TIME - timedelta(seconds=20)},
    }
    sid = SessionId(session_id) if session_id is not None else new_session_id()
    return Session(session_id=sid, **(values | changes))


def an_event(target: str = "t", **changes: Any) -> AuditEvent:
    values: dict[str, Any] = {
        "outcome": AuditOutcome.REFUSED,
        "actor": "admin",
        "peer": "192.0.2.1:5000",
        "request_id": "call-7",
        "reason": 'somebody\N{RIGHT SINGLE QUOTATION MARK}s "reason"\n',
        "details": {"subject": "u_1", "client_id": "billing"},
    }
    return AuditEvent(**({"type": AuditType.TOKEN_REVOKED, "target": target} | values | changes))


def an_issuer(issuer: str = "https://cluster.example", **changes: Any) -> TrustedIssuer:
    values: dict[str, Any] = {
        "jwks_uri": "https://cluster.example/keys",
        "audiences": ("identity", "orders"),
        "algorithms": ("RS256",),
        "rules": (
            TrustRule(
                claims={"sub": "a:*", "kubernetes.io.namespace": "b"}, client_id=PrincipalId("billing")
            ),
            TrustRule(claims={"sub": "c"}, client_id=PrincipalId("reports"), per_subject=True),
        ),
        "single_use": True,
        "max_age": timedelta(minutes=10),
        "create_time": TIME,
    }
    return TrustedIssuer(issuer=issuer, **(values | changes))


NOWHERE = Revision(epoch=Epoch("nowhere"), position=1, link=Link("l"))

MUTATIONS: dict[str, Callable[[Store], object]] = {
    "facts.deny_token": lambda s: s.facts.deny_token(new_token_id(), LATER),
    "facts.end_session": lambda s: s.facts.end_session(
        new_session_id(), deny_until=LATER, end_until=MUCH_LATER
    ),
    "facts.raise_generation": lambda s: s.facts.raise_generation(
        PrincipalId("u_1"), above=0, request_id=None
    ),
    "records.create": lambda s: s.records.create(a_client("created")),
    "records.update": lambda s: s.records.update(a_client("billing"), expected=NOWHERE),
    "records.delete": lambda s: s.records.delete(RecordKind.CLIENT, "billing"),
    "sessions.create": lambda s: s.sessions.create(a_session()),
    "sessions.replace": lambda s: s.sessions.replace(a_session("sid-1"), expected_version=1),
}
"""Every method that changes data only if the caller's epoch is the epoch of the store."""

READS: dict[str, Callable[[Store], object]] = {
    "log.head": lambda s: s.log.head(),
    "log.read": lambda s: s.log.read(0, 10),
    "log.generations": lambda s: s.log.generations(),
    "records.get": lambda s: s.records.get(Client, "billing"),
    "records.list_of": lambda s: s.records.list_of(User),
    "records.find_client": lambda s: s.records.find_client("dns:billing.example"),
    "sessions.list_of": lambda s: s.sessions.list_of(PrincipalId("u_1")),
    "audit.list_newest": lambda s: s.audit.list_newest(AuditFilter()),
    "audit.read_after": lambda s: s.audit.read_after("", 10),
    "records.find_user": lambda s: s.records.find_user("alice"),
    "sessions.read_sign_in": lambda s: s.sessions.read_sign_in("alice", PrincipalId("billing")),
    "sessions.read": lambda s: s.sessions.read(SessionId("sid-1")),
}
"""Every method that only reads."""


def entries_of(store: Store) -> tuple[LogEntry, ...]:
    """Return all entries of the log."""
    return store.log.read(0, 1_000_000).entries


def stored(store: Store, record: Record) -> Versioned[Any] | None:
    """Return the record in the store with the kind and the id of `record`."""
    kind: Any = type(record)
    return store.records.get(kind, record.id)


def deny(store: Store, count: int = 1) -> list[TokenId]:
    """Append `count` denials of new token ids, one after the other, and return the ids."""
    ids = [new_token_id() for _ in range(count)]
    for token_id in ids:
        store.facts.deny_token(token_id, LATER)
    return ids
