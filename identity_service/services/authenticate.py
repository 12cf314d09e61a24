"""Authentication: proves a credential and says whose it is. Issues nothing.

Every refusal is the same CredentialRefusedError, and unknown accounts cost as much as known ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from identity_service.domain.errors import CredentialRefusedError, NotImplementedYetError
from identity_service.domain.grants import require_grant
from identity_service.domain.ids import EVERYONE, FIRST_PARTY_CLIENT, PrincipalId
from identity_service.domain.log import Generation
from identity_service.domain.origin import PeerCertificate
from identity_service.domain.ports import Clock, PasswordHasher, ReplicaView
from identity_service.domain.principals import Client, Grant, User
from identity_service.domain.revocations import newest
from identity_service.domain.secret import Secret
from identity_service.domain.secrets import matches_any
from identity_service.domain.store import Store
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """The certificate of the connection (RFC 8705)."""

    certificate: PeerCertificate


@dataclass(frozen=True, slots=True, kw_only=True)
class FederatedToken:
    """A JWT of a trusted issuer."""

    jwt: Secret


ClientCredential = ClientSecret | ClientAssertion | ClientCertificate | FederatedToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Password:
    """A person's username and password, and the client that the person signs in through."""

    username: str
    password: Secret
    client_id: PrincipalId = FIRST_PARTY_CLIENT
    client_secret: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatedClient:
    """A client that proved itself, with the generations from before its record was read."""

    client: Client
    subject: PrincipalId
    """The client's id, or that of a principal of a trusted issuer which has no record here."""
    generations: Mapping[PrincipalId, Generation]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatedUser:
    """A person who proved themselves, with the generations from before the record was read."""

    user: User
    client: Client
    generations: Mapping[PrincipalId, Generation]
    auth_time: datetime
    """By the store's clock."""


class Authenticator:
    """Checks credentials."""

    def __init__(
        self,
        store: Store,
        replica: ReplicaView,
        directory: Directory,
        hasher: PasswordHasher,
        clock: Clock,
    ) -> None:
        self._store = store
        self._replica = replica
        self._directory = directory
        self._hasher = hasher
        self._clock = clock

    def client(self, credential: ClientCredential) -> AuthenticatedClient:
        """Check a credential of a client. Raises CredentialRefusedError."""
        match credential:
            case ClientSecret():
                return self._by_secret(credential)
            case _:
                raise NotImplementedYetError("this kind of credential is not offered yet")

    def _by_secret(self, credential: ClientSecret) -> AuthenticatedClient:
        # Before the record: a raise in between makes a token that is refused, never one that escapes.
        generations = self._replica.revocations.current(EVERYONE, credential.client_id)
        client = self._directory.client(credential.client_id)
        right = matches_any(credential.secret, client.secrets if client else (), self._clock.now())
        if client is None or client.disabled or not right:
            raise CredentialRefusedError
        return AuthenticatedClient(client=client, subject=client.client_id, generations=generations)

    def user(self, credential: Password) -> AuthenticatedUser:
        """Check a username and password. Slow on purpose. Raises CredentialRefusedError, ServerBusyError."""
        found = self._store.find_user(credential.username)
        user_id = found.record.user_id if found is not None else None
        # Both readings of the generations come before the record and the password: see `client`.
        known = self._replica.revocations.current(EVERYONE, credential.client_id, *filter(None, [user_id]))
        sign_in = self._store.read_sign_in(credential.username, credential.client_id)
        user, client = sign_in.user, sign_in.client
        right = self._hasher.verify(user.password_hash if user else None, credential.password)
        if user is None or user.user_id != user_id or user.disabled or not right:
            raise CredentialRefusedError
        if client is None or client.disabled or not self._client_is_right(client, credential.client_secret):
            raise CredentialRefusedError
        require_grant(client, Grant.PASSWORD)
        return AuthenticatedUser(
            user=user,
            client=client,
            generations=newest(sign_in.generations, known),
            auth_time=sign_in.time,
        )

    def _client_is_right(self, client: Client, secret: Secret | None) -> bool:
        """A public client has nothing to show; one with a secret must show it."""
        if client.is_public:
            return True
        return secret is not None and matches_any(secret, client.secrets, self._clock.now())
