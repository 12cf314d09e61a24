"""Converters of AdminService's results: from records to wire messages.

No message holds a password hash, a secret's hash or an encrypted key.
"""

from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.origin import Origin
from identity_service.domain.principals import Client, StoredSecret, User
from identity_service.domain.records import Versioned
from identity_service.domain.sessions import Session
from identityapi.v1 import principal_pb2


def from_client(found: Versioned[Client]) -> principal_pb2.Client:
    """Convert a client; its etag is the revision of the record."""
    client = found.record
    return principal_pb2.Client(
        client_id=client.client_id,
        display_name=client.display_name,
        grants=sorted(f"GRANT_{grant.name}" for grant in client.grants),
        audiences=sorted(client.audiences),
        scopes=sorted(client.scopes),
        on_reuse=f"ON_REUSE_{client.on_reuse.name}",
        disabled=client.disabled,
        certificates=sorted(client.certificates),
        public_keys=client.public_keys,
        require_binding=client.require_binding,
        exchange_audiences=sorted(client.exchange_audiences),
        encryption_key=client.encryption_key or "",
        secrets=[_from_secret(secret) for secret in client.secrets],
        create_time=client.create_time,
        max_lifetime=client.max_lifetime,
        etag=str(found.revision),
    )


def from_user(found: Versioned[User]) -> principal_pb2.User:
    """Convert a user; its etag is the revision of the record."""
    user = found.record
    return principal_pb2.User(
        user_id=user.user_id,
        username=user.username,
        display_name=user.display_name,
        audiences=sorted(user.audiences),
        scopes=sorted(user.scopes),
        disabled=user.disabled,
        has_password=user.password_hash is not None,
        create_time=user.create_time,
        etag=str(found.revision),
    )


def from_session(session: Session, origin: Origin) -> principal_pb2.Session:
    """Convert a session; `current` is true if the call of `origin` was made with a token of it."""
    return principal_pb2.Session(
        session_id=session.session_id,
        subject=session.subject,
        client_id=session.client_id,
        device=session.device,
        peer=session.peer,
        auth_time=session.auth_time,
        refresh_time=session.refresh_time,
        expire_time=session.expire_time,
        audiences=session.audiences,
        scopes=session.scopes,
        current=session.session_id == origin.session_id,
    )


def from_trusted_issuer(found: Versioned[TrustedIssuer]) -> principal_pb2.TrustedIssuer:
    """Convert a trusted issuer; its etag is the revision of the record."""
    issuer = found.record
    return principal_pb2.TrustedIssuer(
        issuer=issuer.issuer,
        jwks_uri=issuer.jwks_uri,
        jwks_file=issuer.jwks_file,
        jwks=issuer.jwks,
        audiences=issuer.audiences,
        algorithms=issuer.algorithms,
        rules=[
            principal_pb2.TrustRule(
                claims=dict(rule.claims), client_id=rule.client_id, per_subject=rule.per_subject
            )
            for rule in issuer.rules
        ],
        single_use=issuer.single_use,
        create_time=issuer.create_time,
        max_age=issuer.max_age,
        etag=str(found.revision),
    )


def _from_secret(secret: StoredSecret) -> principal_pb2.SecretInfo:
    return principal_pb2.SecretInfo(create_time=secret.create_time, expire_time=secret.expire_time)
