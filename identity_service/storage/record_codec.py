"""The codec of the records of the directory: JSON text that both stores write. The module knows no store.

A record that an older version wrote lacks the fields that are newer; they are read with their defaults.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from identity_service.domain.ids import KeyId, PrincipalId
from identity_service.domain.issuers import TrustedIssuer, TrustRule
from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.principals import Client, Grant, OnReuse, StoredSecret, User, normalize_username
from identity_service.domain.records import Record, RecordT
from identity_service.storage.codec import Json, dumps, maybe, moment, seconds


def names_of(record: Record) -> Sequence[str]:
    """Return the names by which a record is found besides its id; no two records of a kind share one."""
    match record:
        case User():
            return (normalize_username(record.username),)
        case Client():
            return sorted(record.certificates)
        case _:
            return ()


def encode_record(record: Record) -> str:
    """Return the record as JSON text."""
    match record:
        case Client():
            return dumps(_client_json(record))
        case User():
            return dumps(_user_json(record))
        case StoredKey():
            return dumps(_key_json(record))
        case TrustedIssuer():
            return dumps(_issuer_json(record))


def decode_record(kind: type[RecordT], text: str) -> RecordT:
    """Return the record of this kind from a JSON text. Raises ValueError, KeyError or TypeError."""
    record: Any = _DECODERS[kind](json.loads(text))
    return record  # type: ignore[no-any-return]


def _client_json(client: Client) -> Json:
    return {
        "client_id": client.client_id,
        "display_name": client.display_name,
        "secrets": [
            [s.digest.hex(), maybe(seconds, s.expire_time), maybe(seconds, s.create_time)]
            for s in client.secrets
        ],
        "certificates": sorted(client.certificates),
        "public_keys": client.public_keys,
        "grants": sorted(client.grants),
        "audiences": sorted(client.audiences),
        "scopes": sorted(client.scopes),
        "max_lifetime": maybe(timedelta.total_seconds, client.max_lifetime),
        "on_reuse": client.on_reuse,
        "require_binding": client.require_binding,
        "exchange_audiences": sorted(client.exchange_audiences),
        "encryption_key": client.encryption_key,
        "disabled": client.disabled,
        "create_time": maybe(seconds, client.create_time),
    }


def _client(data: Json) -> Client:
    return Client(
        client_id=PrincipalId(data["client_id"]),
        display_name=data["display_name"],
        secrets=tuple(
            StoredSecret(
                digest=bytes.fromhex(digest),
                expire_time=maybe(moment, expire),
                create_time=maybe(moment, create[0] if create else None),
            )
            for digest, expire, *create in data["secrets"]
        ),
        certificates=frozenset(data.get("certificates", ())),
        public_keys=tuple(data.get("public_keys", ())),
        grants=frozenset(Grant(g) for g in data["grants"]),
        audiences=frozenset(data["audiences"]),
        scopes=frozenset(data["scopes"]),
        max_lifetime=maybe(lambda s: timedelta(seconds=s), data["max_lifetime"]),
        on_reuse=OnReuse(data["on_reuse"]),
        require_binding=data.get("require_binding", False),
        exchange_audiences=frozenset(data.get("exchange_audiences", ())),
        encryption_key=data.get("encryption_key"),
        disabled=data["disabled"],
        create_time=maybe(moment, data["create_time"]),
    )


def _user_json(user: User) -> Json:
    return {
        "user_id": user.user_id,
        "username": user.username,
        "display_name": user.display_name,
        "password_hash": user.password_hash,
        "audiences": sorted(user.audiences),
        "scopes": sorted(user.scopes),
        "disabled": user.disabled,
        "create_time": maybe(seconds, user.create_time),
    }


def _user(data: Json) -> User:
    return User(
        user_id=PrincipalId(data["user_id"]),
        username=data["username"],
        display_name=data["display_name"],
        password_hash=data["password_hash"],
        audiences=frozenset(data["audiences"]),
        scopes=frozenset(data["scopes"]),
        disabled=data["disabled"],
        create_time=maybe(moment, data["create_time"]),
    )


def _key_json(key: StoredKey) -> Json:
    return {
        "key_id": key.key_id,
        "purpose": key.purpose,
        "algorithm": key.algorithm,
        "public_jwk": key.public_jwk,
        "sealed": key.sealed,
        "create_time": seconds(key.create_time),
        "activate_time": seconds(key.activate_time),
    }


def _key(data: Json) -> StoredKey:
    return StoredKey(
        key_id=KeyId(data["key_id"]),
        purpose=KeyPurpose(data["purpose"]),
        algorithm=data["algorithm"],
        public_jwk=data["public_jwk"],
        sealed=data["sealed"],
        create_time=moment(data["create_time"]),
        activate_time=moment(data["activate_time"]),
    )


def _issuer_json(issuer: TrustedIssuer) -> Json:
    return {
        "issuer": issuer.issuer,
        "jwks_uri": issuer.jwks_uri,
        "jwks_file": issuer.jwks_file,
        "jwks": issuer.jwks,
        "audiences": issuer.audiences,
        "algorithms": issuer.algorithms,
        "rules": [[dict(r.claims), r.client_id, r.per_subject] for r in issuer.rules],
        "single_use": issuer.single_use,
        "max_age": maybe(timedelta.total_seconds, issuer.max_age),
        "create_time": maybe(seconds, issuer.create_time),
    }


def _issuer(data: Json) -> TrustedIssuer:
    return TrustedIssuer(
        issuer=data["issuer"],
        jwks_uri=data["jwks_uri"],
        jwks_file=data["jwks_file"],
        jwks=data["jwks"],
        audiences=tuple(data["audiences"]),
        algorithms=tuple(data["algorithms"]),
        rules=tuple(
            TrustRule(claims=claims, client_id=PrincipalId(client_id), per_subject=per_subject)
            for claims, client_id, per_subject in data["rules"]
        ),
        single_use=data["single_use"],
        max_age=maybe(lambda s: timedelta(seconds=s), data["max_age"]),
        create_time=maybe(moment, data["create_time"]),
    )


_DECODERS: Final[Mapping[type[Record], Callable[[Json], Record]]] = {
    Client: _client,
    User: _user,
    StoredKey: _key,
    TrustedIssuer: _issuer,
}
