"""Client authentication without a shared secret: by assertion, certificate, or token of a trusted issuer.

An ID-JAG is a token of a trusted issuer too, but authenticates no client (see `id_jags.py`).
The errors name the client and the reason for the audit trail; the caller only learns that it was refused.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta

from identity_service.domain.assertions import (
    Assertion,
    AssertionReader,
    UnverifiedAssertion,
    check_client_assertion,
    check_federated_token,
    remembered_until,
)
from identity_service.domain.credential_errors import (
    CertificateMissingError,
    CredentialRefusedError,
    IdJagRefusedError,
)
from identity_service.domain.id_jag import ID_JAG_TYPE
from identity_service.domain.ids import EVERYONE, PrincipalId, digest_of, is_principal_id
from identity_service.domain.issuers import federated_id
from identity_service.domain.log import Generation
from identity_service.domain.origin import PeerCertificate
from identity_service.domain.ports import Clock, ReplicaView, VerifyingKey
from identity_service.domain.principals import Client
from identity_service.domain.secret import Secret
from identity_service.domain.store import SingleUse
from identity_service.services.directory import Directory
from identity_service.services.issuers import IssuerDirectory, naming_issuer


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatedClient:
    """A client that was authenticated."""

    client: Client
    subject: PrincipalId
    """The client's id, or the id of a principal of a trusted issuer, which has no record here."""
    generations: Mapping[PrincipalId, Generation]
    """The generations of the client, the subject and the service, read before the client's record."""


@dataclass(frozen=True, slots=True)
class ClientProofs:
    """A checker of client proofs. Every method raises CredentialRefusedError and StoreUnavailableError."""

    single_use: SingleUse
    replica: ReplicaView
    directory: Directory
    issuers: IssuerDirectory
    reader: AssertionReader
    clock: Clock
    _: KW_ONLY
    audiences: tuple[str, ...]
    """The issuer names of this service, one of which a JWT must have as `aud`."""
    leeway: timedelta
    """The largest difference between the clock of the signer and this one."""

    def by_assertion(
        self, jwt: Secret, *, named: PrincipalId | None = None, token_endpoint: str | None = None
    ) -> AuthenticatedClient:
        """Return the client whose registered key signed this JWT (RFC 7523).

        Args:
            jwt: the assertion.
            named: the client that the request names beside the assertion; any other is refused.
            token_endpoint: a URL that `aud` may be beside the issuer name of this service; None = none.
        """
        unverified = self.reader.read(jwt)
        _require_no_id_jag(unverified)
        issuer = unverified.assertion.issuer
        proven = self._find(PrincipalId(issuer)) if is_principal_id(issuer) else None
        with _naming_principal(proven):
            key = self._key_of(proven, unverified)
            if proven is None or key is None:
                self.reader.spend(unverified)  # so that the duration does not tell which clients exist
                raise CredentialRefusedError("the assertion is of no client that has such a key")
            assertion = unverified.prove(key)
            token_id = check_client_assertion(
                assertion,
                audiences=(*self.audiences, *((token_endpoint,) if token_endpoint else ())),
                now=self.clock.now(),
                leeway=self.leeway,
            )
            _require_enabled(proven)
            _require_named(proven, named)
            self._consume(f"assertion:{issuer}", token_id, assertion)
        return proven

    def by_certificate(
        self, certificate: PeerCertificate | None, *, named: PrincipalId | None = None
    ) -> AuthenticatedClient:
        """Return the client that has registered a name of this certificate (RFC 8705).

        If the request names a client, `named`, any other is refused.
        """
        if certificate is None:
            raise CertificateMissingError("the connection has no client certificate")
        found = self.directory.client_of(certificate)
        # The client is read again, after the generations: see `_find`.
        proven = self._find(found.client_id) if found is not None else None
        if proven is None:
            raise CredentialRefusedError("the certificate names no client, or several")
        with _naming_principal(proven):
            _require_enabled(proven)
            _require_named(proven, named)
        return proven

    def by_federated_token(self, jwt: Secret, *, named: PrincipalId | None = None) -> AuthenticatedClient:
        """Return the client that the rules of a trusted issuer assign to this token.

        If the request names a client, `named`, any other is refused.

        Also raises IssuerUnreachableError if the keys of the issuer cannot be fetched.
        """
        unverified = self.reader.read(jwt)
        with naming_issuer(unverified):
            _require_no_id_jag(unverified)
            return self._by_token_of_issuer(unverified, named)

    def _by_token_of_issuer(
        self, unverified: UnverifiedAssertion, named: PrincipalId | None
    ) -> AuthenticatedClient:
        issuer, assertion = self.issuers.prove(unverified)
        token_id = check_federated_token(
            assertion,
            issuer,
            audiences=self.audiences,
            now=self.clock.now(),
            leeway=self.leeway,
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
        with _naming_principal(proven):
            _require_enabled(proven)
            _require_named(proven, named)
            if token_id is not None:
                self._consume(f"federated:{digest_of(issuer.issuer)}", token_id, assertion)
        return proven

    def _find(self, client_id: PrincipalId, subject: PrincipalId | None = None) -> AuthenticatedClient | None:
        # The generations are read before the record: if one is raised in between, the new token has the old
        # one and is refused. Read after it, the token would escape the revocation.
        subject = subject or client_id
        generations = self.replica.revocations.current(EVERYONE, client_id, subject)
        client = self.directory.client(client_id)
        if client is None:
            return None
        return AuthenticatedClient(client=client, subject=subject, generations=generations)

    def _key_of(
        self, proven: AuthenticatedClient | None, unverified: UnverifiedAssertion
    ) -> VerifyingKey | None:
        """Return the key that the client has registered for this assertion, or None.

        It is the key that the assertion's `kid` names or, without a `kid`, the only key for its algorithm. A
        key that the rules of today refuse, although it was registered before, is skipped.
        """
        keys = []
        for text in proven.client.public_keys if proven is not None else ():
            with suppress(ValueError):
                keys.append(self.reader.open_key(text))
        if unverified.key_id:
            return next((key for key in keys if key.key_id == unverified.key_id), None)
        fitting = [key for key in keys if key.algorithm == unverified.algorithm]
        return fitting[0] if len(fitting) == 1 else None

    def _consume(self, whose: str, token_id: str, assertion: Assertion) -> None:
        until = remembered_until(assertion, self.leeway)
        if not self.single_use.consume(f"{whose}:{digest_of(token_id)}", until):
            raise CredentialRefusedError("the JWT was used before, and is for a single use")


def _require_no_id_jag(unverified: UnverifiedAssertion) -> None:
    if unverified.assertion.type == ID_JAG_TYPE:
        raise IdJagRefusedError(
            "it authenticates no client; present it over HTTP with the grant jwt-bearer, and authenticate "
            "the client"
        )


def _require_enabled(proven: AuthenticatedClient) -> None:
    if proven.client.disabled:
        raise CredentialRefusedError("the client is disabled")


def _require_named(proven: AuthenticatedClient, named: PrincipalId | None) -> None:
    if named is not None and named != proven.client.client_id:
        raise CredentialRefusedError(
            "the credential is of another client than the one that the request names"
        )


@contextmanager
def _naming_principal(proven: AuthenticatedClient | None) -> Iterator[None]:
    """Add the client's id to a CredentialRefusedError, for the audit trail."""
    try:
        yield
    except CredentialRefusedError as error:
        if proven is not None:
            error.principal = proven.client.client_id
        raise
