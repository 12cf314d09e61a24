"""Proofs of clients that need no secret here: an assertion, a certificate, a token of a trusted issuer.

Each says whose it is and why it is refused; the caller hears only that it is. Issues nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256

from identity_service.domain.assertions import (
    Assertion,
    AssertionReader,
    UnverifiedAssertion,
    check_client_assertion,
    check_federated_token,
)
from identity_service.domain.errors import CertificateMissingError, CredentialRefusedError
from identity_service.domain.ids import EVERYONE, PrincipalId, base64url, is_principal_id
from identity_service.domain.issuers import federated_id
from identity_service.domain.log import Generation
from identity_service.domain.origin import PeerCertificate
from identity_service.domain.ports import Clock, IssuerKeys, ReplicaView, VerifyingKey
from identity_service.domain.principals import Client
from identity_service.domain.secret import Secret
from identity_service.domain.store import Store
from identity_service.domain.visible import shown
from identity_service.services.directory import Directory
from identity_service.services.issuers import Issuers


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatedClient:
    """A client that proved itself, with the generations from before its record was read."""

    client: Client
    subject: PrincipalId
    """The client's id, or that of a principal of a trusted issuer which has no record here."""
    generations: Mapping[PrincipalId, Generation]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofConfig:
    """Whom proofs must be made for, and by which clock."""

    audience: str
    """The issuer name of this service."""
    leeway: timedelta


class ClientProofs:
    """Checks them. Every method raises CredentialRefusedError, and StoreUnavailableError."""

    def __init__(
        self,
        store: Store,
        replica: ReplicaView,
        directory: Directory,
        issuers: Issuers,
        issuer_keys: IssuerKeys,
        reader: AssertionReader,
        clock: Clock,
        config: ProofConfig,
    ) -> None:
        self._store = store
        self._replica = replica
        self._directory = directory
        self._issuers = issuers
        self._issuer_keys = issuer_keys
        self._reader = reader
        self._clock = clock
        self._config = config

    def by_assertion(self, jwt: Secret) -> AuthenticatedClient:
        """Whose key signed this JWT (RFC 7523)."""
        unverified = self._reader.read(jwt)
        named = unverified.says.issuer
        proven = self._find(PrincipalId(named)) if is_principal_id(named) else None
        with _naming_account(proven):
            key = self._key_of(proven, unverified.key_id)
            if proven is None or key is None:
                self._reader.spend(unverified)  # so that the time it takes does not tell which clients exist
                raise CredentialRefusedError("the assertion is of no client that has such a key")
            assertion = unverified.prove(key)
            token_id = check_client_assertion(
                assertion,
                audience=self._config.audience,
                now=self._clock.now(),
                leeway=self._config.leeway,
            )
            _require_enabled(proven)
            self._consume(f"assertion:{named}", token_id, assertion)
        return proven

    def by_certificate(self, certificate: PeerCertificate | None) -> AuthenticatedClient:
        """Whose certificate the connection showed (RFC 8705)."""
        if certificate is None:
            raise CertificateMissingError("the connection has no certificate")
        named = self._directory.client_of(certificate)
        # Read again, after the generations: see `_find`.
        proven = self._find(named.client_id) if named is not None else None
        if proven is None:
            raise CredentialRefusedError("the certificate is that of no client, or of several")
        with _naming_account(proven):
            _require_enabled(proven)
        return proven

    def by_federated_token(self, jwt: Secret) -> AuthenticatedClient:
        """Whom a token proves by the rules of its issuer. Raises IssuerUnreachableError, too."""
        unverified = self._reader.read(jwt)
        try:
            return self._by_token_of_issuer(unverified)
        except CredentialRefusedError as error:
            error.details["issuer"] = shown(unverified.says.issuer)
            raise

    def _by_token_of_issuer(self, unverified: UnverifiedAssertion) -> AuthenticatedClient:
        issuer = self._issuers.find(unverified.says.issuer)
        if issuer is None:
            raise CredentialRefusedError("the token's issuer is not trusted")
        if unverified.algorithm not in issuer.algorithms:
            raise CredentialRefusedError("the token's alg is none that is accepted of its issuer")
        key = self._issuer_keys.find(issuer, unverified.key_id)
        if key is None:
            raise CredentialRefusedError(
                "the token names a key that its issuer does not have", details={"kid": unverified.key_id}
            )
        assertion = unverified.prove(key)
        token_id = check_federated_token(
            assertion,
            issuer,
            audience=self._config.audience,
            now=self._clock.now(),
            leeway=self._config.leeway,
        )
        rule = issuer.rule_for(assertion.claims)
        if rule is None:
            raise CredentialRefusedError("no rule of the token's issuer applies to it")
        subject = federated_id(issuer.issuer, assertion.subject) if rule.per_subject else rule.client_id
        proven = self._find(rule.client_id, subject)
        if proven is None:
            raise CredentialRefusedError(
                "the client that the issuer's rule names does not exist",
                details={"client_id": rule.client_id},
            )
        with _naming_account(proven):
            _require_enabled(proven)
            if token_id is not None:
                self._consume(f"federated:{_digest(issuer.issuer)}", token_id, assertion)
        return proven

    def _find(self, client_id: PrincipalId, subject: PrincipalId | None = None) -> AuthenticatedClient | None:
        # Before the record: a raise in between makes a token that is refused, never one that escapes.
        subject = subject or client_id
        generations = self._replica.revocations.current(EVERYONE, client_id, subject)
        client = self._directory.client(client_id)
        if client is None:
            return None
        return AuthenticatedClient(client=client, subject=subject, generations=generations)

    def _key_of(self, proven: AuthenticatedClient | None, key_id: str) -> VerifyingKey | None:
        """Return the key of this id among those that the client has registered, or None.

        A key that was registered under other rules and is refused now is passed over; the others count.
        """
        for text in proven.client.public_keys if proven is not None else ():
            with suppress(ValueError):
                key = self._reader.open_key(text)
                if key.key_id == key_id:
                    return key
        return None

    def _consume(self, whose: str, token_id: str, assertion: Assertion) -> None:
        until = assertion.expire_time + self._config.leeway
        if not self._store.consume(f"{whose}:{_digest(token_id)}", until):
            raise CredentialRefusedError("it was used before, and may be used once only")


def _require_enabled(proven: AuthenticatedClient) -> None:
    if proven.client.disabled:
        raise CredentialRefusedError("the client is disabled")


@contextmanager
def _naming_account(proven: AuthenticatedClient | None) -> Iterator[None]:
    """Names the client in what the operator is told of a refusal."""
    try:
        yield
    except CredentialRefusedError as error:
        if proven is not None:
            error.account = proven.client.client_id
        raise


def _digest(text: str) -> str:
    """A text of others in a key of the store: of one length, and nobody can make two that are the same."""
    return base64url(sha256(text.encode()).digest())
