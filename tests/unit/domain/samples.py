"""Valid values of the domain for unit tests; keyword arguments change single members."""

from datetime import UTC, datetime, timedelta
from typing import Any

from identity_service.domain.ids import KeyId, PrincipalId, SessionId, TokenId
from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.principals import Client, User
from identity_service.domain.sessions import Session
from identity_service.domain.tokens import AccessToken

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
GRACE = timedelta(seconds=60)
MOMENT = timedelta(milliseconds=1)
KEY = KeyId("refresh-1")
NEW_KEY = KeyId("refresh-2")


def a_session(**changes: Any) -> Session:
    values: dict[str, Any] = {
        "session_id": SessionId("a" * 22),
        "subject": PrincipalId("u_alice"),
        "client_id": PrincipalId("shop"),
        "audiences": ("orders",),
        "scopes": ("orders.read",),
        "lifetime": timedelta(minutes=15),
        "auth_time": START,
        "expire_time": START + timedelta(days=30),
        "key_id": KEY,
    }
    return Session(**(values | changes))


def a_token(**changes: Any) -> AccessToken:
    values: dict[str, Any] = {
        "issuer": "https://id.example",
        "subject": PrincipalId("u_alice"),
        "audiences": ("orders",),
        "client_id": PrincipalId("shop"),
        "scopes": ("orders.read",),
        "token_id": TokenId("token"),
        "session_id": SessionId("session"),
        "issue_time": START,
        "expire_time": START + timedelta(minutes=15),
    }
    return AccessToken(**(values | changes))


def a_client(**changes: Any) -> Client:
    values: dict[str, Any] = {
        "client_id": PrincipalId("shop"),
        "audiences": frozenset({"orders", "stock"}),
        "scopes": frozenset({"orders.read", "orders.write"}),
    }
    return Client(**(values | changes))


def a_user(**changes: Any) -> User:
    values: dict[str, Any] = {
        "user_id": PrincipalId("u_alice"),
        "username": "alice",
        "audiences": frozenset({"orders", "mail"}),
        "scopes": frozenset({"orders.read", "mail.read"}),
    }
    return User(**(values | changes))


def a_key(key_id: str, **changes: Any) -> StoredKey:
    values: dict[str, Any] = {
        "purpose": KeyPurpose.SIGN,
        "algorithm": "ES256",
        "public_jwk": "{}",
        "sealed": "sealed-text",
        "create_time": START,
        "activate_time": START,
    }
    return StoredKey(key_id=KeyId(key_id), **(values | changes))
