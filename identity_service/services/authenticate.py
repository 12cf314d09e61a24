"""Authentication: checks a credential and returns the client or user that it proves.

The module issues no token. Every refusal is the same CredentialRefusedError, and an unknown principal takes
as long to refuse as a known one, so that callers cannot find out which principals exist.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.credential_errors import BindingRequiredError, CredentialRefusedError
from identity_service.domain.errors import NotFoundError, ServerBusyError, StaleEtagError, UnavailableError
from identity_service.domain.grants import require_grant
from identity_service.domain.ids import EVERYONE, FIRST_PARTY_CLIENT, PrincipalId
from identity_service.domain.log import Generation
from identity_service.domain.origin import NOWHERE, Origin, PeerCertificate
from identity_service.domain.ports import AuditTrail, Clock, PasswordHasher, ReplicaView
from identity_service.domain.principals import Client, Grant, User, normalize_username
from identity_service.domain.revocations import first_raised, newest
from identity_service.domain.secret import Secret, matches_any
from identity_service.domain.sessions import Session, SignIn
from identity_service.domain.store import RecordStore, SessionStore
from identity_service.services.attempts import AttemptGuard
from identity_service.services.client_proofs import AuthenticatedClient, ClientProofs
from identity_service.services.directory import Directory


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSecret:
    """A client's id and secret."""

    client_id: PrincipalId
    secret: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientAssertion:
    """A JWT that the client signed with its own key (RFC 7523)."""

    jwt: Secret
    client_id: PrincipalId | None = None
    """The client that the request names beside the JWT; None = none. Any other is refused."""
    token_endpoint: str | None = None
    """The URL that `aud` may be beside the issuer name of this service; None = none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """The client certificate of the TLS connection as a credential (RFC 8705)."""

    certificate: PeerCertificate | None
    """The verified certificate; None = the connection has none, and the credential is refused."""
    client_id: PrincipalId | None = None
    """The client that the request names; None = none. Any other is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FederatedToken:
    """A JWT that a trusted issuer signed."""

    jwt: Secret
    client_id: PrincipalId | None = None
    """The client that the request names beside the JWT; None = none. Any other is refused."""


ClientCredential = ClientSecret | ClientAssertion | ClientCertificate | FederatedToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Password:
    """A user's username and password, and the client that the user signs in through."""

    username: str
    password: Secret
    client_id: PrincipalId = FIRST_PARTY_CLIENT
    client_secret: Secret | None = None
    authenticated: AuthenticatedClient | None = None
    """The client with `client_id`, if it was authenticated just before; it needs no secret then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatedUser:
    """A user that was authenticated, with the client that the user signed in through."""

    user: User
    client: Client
    generations: Mapping[PrincipalId, Generation]
    """The generations of the user, the client and the service, read before the password was checked."""
    auth_time: datetime
    """The time at which the user was authenticated, by the store's clock."""


@dataclass(frozen=True, slots=True)
class Authenticator:
    """A checker of the credentials of clients and users, which limits how often a caller may try."""

    sessions: SessionStore
    records: RecordStore
    replica: ReplicaView
    directory: Directory
    hasher: PasswordHasher
    clock: Clock
    proofs: ClientProofs
    guard: AttemptGuard
    audit: AuditTrail

    def client(self, credential: ClientCredential, origin: Origin = NOWHERE) -> AuthenticatedClient:
        """Check a client's credential and return the client.

        Raises CredentialRefusedError, TooManyAttemptsError, ServerBusyError, IssuerUnreachableError,
        StoreUnavailableError.
        """
        claimed = credential.client_id if isinstance(credential, ClientSecret) else ""
        with self.guard.of_client(claimed, origin.peer):
            return self._client(credential)

    def is_public(self, client_id: PrincipalId) -> bool:
        """Return whether there is a client of this id that has no credential.

        Raises StoreUnavailableError.
        """
        client = self.directory.client(client_id)
        return client is not None and client.is_public

    def _client(self, credential: ClientCredential) -> AuthenticatedClient:
        match credential:
            case ClientSecret():
                return self._by_secret(credential)
            case ClientAssertion():
                return self.proofs.by_assertion(
                    credential.jwt, named=credential.client_id, token_endpoint=credential.token_endpoint
                )
            case ClientCertificate():
                return self.proofs.by_certificate(credential.certificate, named=credential.client_id)
            case FederatedToken():
                return self.proofs.by_federated_token(credential.jwt, named=credential.client_id)
            case _:
                assert_never(credential)

    def _by_secret(self, credential: ClientSecret) -> AuthenticatedClient:
        # Read before the record: if the generation is raised in between, the new token has the old one and
        # is refused. Read after it, the token would escape the revocation.
        generations = self.replica.revocations.current(EVERYONE, credential.client_id)
        client = self.directory.client(credential.client_id)
        right = matches_any(credential.secret, client.secrets if client else (), self.clock.now())
        if client is None:
            raise CredentialRefusedError("there is no client of this id")
        if not right or client.disabled:
            why = "the client is disabled" if right else "the secret does not match"
            raise CredentialRefusedError(why, principal=client.client_id)
        return AuthenticatedClient(client=client, subject=client.client_id, generations=generations)

    def user(self, credential: Password, origin: Origin = NOWHERE) -> AuthenticatedUser:
        """Check a username and password, and return the user. This is slow on purpose (argon2id).

        The client proves itself by its secret or by the certificate of the connection; a public client need
        not. Raises CredentialRefusedError, TooManyAttemptsError, ServerBusyError, StoreUnavailableError.
        """
        with self.guard.of_user(normalize_username(credential.username), origin.peer):
            return self._user(credential, origin)

    def _user(self, credential: Password, origin: Origin) -> AuthenticatedUser:
        sign_in, generations = self._read_sign_in(credential)
        user, client = sign_in.user, sign_in.client
        proven = client is not None and self._is_proven(client, credential, generations, origin.certificate)
        if proven and client is not None and not client.is_public and not client.disabled:
            # Before the password: a client without the grant must not learn whether the password is right.
            require_grant(client, Grant.PASSWORD)
        right = self.hasher.verify(user.password_hash if user else None, credential.password)
        if user is None:
            raise CredentialRefusedError("there is no user of this name")
        if not right or user.disabled:
            why = "the user is disabled" if right else "the password does not match"
            raise CredentialRefusedError(why, principal=user.user_id)
        if client is None or client.disabled or not proven:
            raise CredentialRefusedError("the client of the sign-in is not proven", principal=user.user_id)
        require_grant(client, Grant.PASSWORD)
        self._rehash(user, credential.password, origin)
        return AuthenticatedUser(user=user, client=client, generations=generations, auth_time=sign_in.time)

    def _read_sign_in(self, credential: Password) -> tuple[SignIn, Mapping[PrincipalId, Generation]]:
        """Return the records for a sign-in, and the generations under which its tokens are issued.

        Each generation is the newer one of store and replica. It was read before the records, or with them in
        one step, for the reason that `_by_secret` gives: if the replica knows a newer one than the store had
        at the time of the read, the records are read again.
        """
        known: Mapping[PrincipalId, Generation] = {}
        while True:
            sign_in = self.sessions.read_sign_in(credential.username, credential.client_id)
            generations = newest(sign_in.generations, known)
            user_ids = () if sign_in.user is None else (sign_in.user.user_id,)
            known = self.replica.revocations.current(EVERYONE, credential.client_id, *user_ids)
            if newest(generations, known) == generations:
                return sign_in, generations

    def _rehash(self, user: User, password: Secret, origin: Origin) -> None:
        """Replace a password hash that is weaker than the settings; a failure does not stop the sign-in."""
        if user.password_hash is None or not self.hasher.is_outdated(user.password_hash):
            return
        event = AuditEvent.of(AuditType.PASSWORD_REHASHED, origin, target=user.user_id)
        with suppress(StaleEtagError, NotFoundError, UnavailableError, ServerBusyError):
            hashed = self.hasher.hash(password)
            found = self.records.get(User, user.user_id)
            if found is None or found.record.password_hash != user.password_hash:
                return  # the password was changed meanwhile
            stronger = replace(found.record, password_hash=hashed)
            self.records.update(stronger, expected=found.revision, audit=event)
            self.audit.stored(event)

    def _is_proven(
        self,
        client: Client,
        credential: Password,
        generations: Mapping[PrincipalId, Generation],
        certificate: PeerCertificate | None,
    ) -> bool:
        """Return whether the client is public, was authenticated, or is proven by secret or certificate."""
        if client.is_public:
            return True
        if (proven := credential.authenticated) is not None:
            # If the client was revoked after its authentication, a session that begins now would escape that.
            revoked = first_raised(generations, frozenset({client.client_id}), proven.generations)
            return proven.client.client_id == client.client_id and revoked is None
        if (secret := credential.client_secret) is not None:
            return matches_any(secret, client.secrets, self.clock.now())
        named = self.directory.client_of(certificate) if certificate is not None else None
        return named is not None and named.client_id == client.client_id


def bind(
    client: Client,
    credential: ClientCredential | Password,
    certificate: PeerCertificate | None,
    key_sha256: bytes | None,
) -> bytes | None:
    """Return the SHA-256 of the certificate that new tokens are bound to; None = they are not bound to one.

    Tokens are bound to it (RFC 8705 section 3) if the certificate was the credential, or if the client
    requires a binding and they are not bound to a key (`key_sha256`, RFC 9449). Any certificate that an
    accepted client CA has signed will do: the binding proves that later calls come from the holder of the
    same certificate, not which client that is. Raises BindingRequiredError if the client requires a binding,
    and the request has neither a key nor a certificate.
    """
    required = client.require_binding and key_sha256 is None
    if not (required or isinstance(credential, ClientCertificate)):
        return None
    if certificate is None:
        raise BindingRequiredError
    return certificate.sha256


def rebind(
    session: Session,
    client: Client,
    credential: ClientCredential | None,
    certificate: PeerCertificate | None,
    key_sha256: bytes | None,
) -> bytes | None:
    """Return the SHA-256 of the certificate that the next access token of a session is bound to, or None.

    It is the certificate of the session, or another one if the client has just authenticated with it, since
    certificates are renewed more often than users sign in (RFC 8705 section 7.1). If the session has none, a
    binding to a key (`key_sha256`, RFC 9449) is enough for a client that requires one.

    Raises BindingRequiredError if the connection has no such certificate.
    """
    bound = session.certificate_sha256
    if bound is None and (key_sha256 is not None or not client.require_binding):
        return None
    if certificate is not None and (isinstance(credential, ClientCertificate) or certificate.sha256 == bound):
        return certificate.sha256
    raise BindingRequiredError
