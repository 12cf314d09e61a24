"""The codec of domain values: JSON text that both stores write to their rows and keys.

Every value is a flat object with a fixed set of members; times are Unix seconds as a float. A value of a
newer version is not interpreted: it raises ValueError.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from identity_service.domain.ids import KeyId, PrincipalId, SessionId
from identity_service.domain.issuers import TrustedIssuer, TrustRule
from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.log import Generation
from identity_service.domain.principals import Client, Grant, OnReuse, StoredSecret, User, normalize_username
from identity_service.domain.sessions import Session
from identity_service.domain.store import Record, RecordT
from identity_service.domain.tokens import TokenEncryption

Json = dict[str, Any]


def dumps(value: object) -> str:
    """Return the value as compact JSON, with characters beyond ASCII unescaped."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def seconds(time: datetime) -> float:
    """Return the time as Unix seconds."""
    return time.timestamp()


def moment(value: float) -> datetime:
    """Return the UTC time of these Unix seconds."""
    return datetime.fromtimestamp(value, UTC)


def names_of(record: Record) -> Sequence[str]:
    """Return the names by which a record is found besides its id; no two records of a kind share one."""
    match record:
        case User():
            return (normalize_username(record.username),)
        case Client():
            return sorted(record.certificates)
        case _:
            return ()


# Records


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
            [s.digest.hex(), _maybe(seconds, s.expire_time), _maybe(seconds, s.create_time)]
            for s in client.secrets
        ],
        "certificates": sorted(client.certificates),
        "public_keys": client.public_keys,
        "grants": sorted(client.grants),
        "audiences": sorted(client.audiences),
        "scopes": sorted(client.scopes),
        "max_lifetime": _maybe(timedelta.total_seconds, client.max_lifetime),
        "on_reuse": client.on_reuse,
        "require_binding": client.require_binding,
        "exchange_audiences": sorted(client.exchange_audiences),
        "encryption_key": client.encryption_key,
        "disabled": client.disabled,
        "create_time": _maybe(seconds, client.create_time),
    }


def _client(data: Json) -> Client:
    return Client(
        client_id=PrincipalId(data["client_id"]),
        display_name=data["display_name"],
        secrets=tuple(
            StoredSecret(
                digest=bytes.fromhex(digest),
                expire_time=_maybe(moment, expire),
                create_time=_maybe(moment, create[0] if create else None),
            )
            for digest, expire, *create in data["secrets"]
        ),
        certificates=frozenset(data.get("certificates", ())),
        public_keys=tuple(data.get("public_keys", ())),
        grants=frozenset(Grant(g) for g in data["grants"]),
        audiences=frozenset(data["audiences"]),
        scopes=frozenset(data["scopes"]),
        max_lifetime=_maybe(lambda s: timedelta(seconds=s), data["max_lifetime"]),
        on_reuse=OnReuse(data["on_reuse"]),
        require_binding=data.get("require_binding", False),
        exchange_audiences=frozenset(data.get("exchange_audiences", ())),
        encryption_key=data.get("encryption_key"),
        disabled=data["disabled"],
        create_time=_maybe(moment, data["create_time"]),
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
        "create_time": _maybe(seconds, user.create_time),
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
        create_time=_maybe(moment, data["create_time"]),
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
        "max_age": _maybe(timedelta.total_seconds, issuer.max_age),
        "create_time": _maybe(seconds, issuer.create_time),
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
        max_age=_maybe(lambda s: timedelta(seconds=s), data["max_age"]),
        create_time=_maybe(moment, data["create_time"]),
    )


def _maybe(convert: Callable[[Any], Any], value: object) -> Any:
    """Return None for None, else the converted value."""
    return None if value is None else convert(value)


_DECODERS: Final[Mapping[type[Record], Callable[[Json], Record]]] = {
    Client: _client,
    User: _user,
    StoredKey: _key,
    TrustedIssuer: _issuer,
}


# Sessions


def encode_session(session: Session) -> str:
    """Return the session as JSON text."""
    return dumps(
        {
            "sid": session.session_id,
            "sub": session.subject,
            "client": session.client_id,
            "aud": session.audiences,
            "scope": session.scopes,
            "life": session.lifetime.total_seconds(),
            "claims": session.claims,
            "gen": {p: str(g) for p, g in session.generations.items()},
            "auth": seconds(session.auth_time),
            "expire": seconds(session.expire_time),
            "device": session.device,
            "peer": session.peer,
            "may_act": session.may_act,
            "cert": _maybe(bytes.hex, session.certificate_sha256),
            "encryption": session.encryption,
            "key": session.key_id,
            "latest": session.latest,
            "parent": session.parent,
            "refresh": _maybe(seconds, session.refresh_time),
            "times": {str(n): seconds(t) for n, t in session.rotate_times.items()},
        }
    )


def decode_session(text: str) -> Session:
    """Return the session of a JSON text. Raises ValueError, KeyError or TypeError."""
    data: Json = json.loads(text)
    return Session(
        session_id=SessionId(data["sid"]),
        subject=PrincipalId(data["sub"]),
        client_id=PrincipalId(data["client"]),
        audiences=tuple(data["aud"]),
        scopes=tuple(data["scope"]),
        lifetime=timedelta(seconds=data["life"]),
        claims=data["claims"],
        generations={PrincipalId(p): Generation.parse(g) for p, g in data["gen"].items()},
        auth_time=moment(data["auth"]),
        expire_time=moment(data["expire"]),
        device=data["device"],
        peer=data.get("peer", ""),
        may_act=_maybe(PrincipalId, data.get("may_act")),
        certificate_sha256=_maybe(bytes.fromhex, data.get("cert")),
        encryption=TokenEncryption(data.get("encryption", TokenEncryption.NONE)),
        key_id=KeyId(data["key"]),
        latest=data["latest"],
        parent=data["parent"],
        refresh_time=_maybe(moment, data.get("refresh")),
        rotate_times={int(n): moment(t) for n, t in data["times"].items()},
    )
