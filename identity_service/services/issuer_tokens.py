"""Finds the trusted issuer of a JWT and the key that verifies it, whatever the JWT is then used for."""

from collections.abc import Iterator
from contextlib import contextmanager

from identity_service.domain.assertions import Assertion, UnverifiedAssertion
from identity_service.domain.errors import CredentialRefusedError
from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.ports import IssuerKeys
from identity_service.domain.visible import shown
from identity_service.services.issuers import Issuers


class IssuerTokens:
    """A verifier of the signatures of trusted issuers."""

    def __init__(self, issuers: Issuers, keys: IssuerKeys) -> None:
        self._issuers = issuers
        self._keys = keys

    def prove(self, unverified: UnverifiedAssertion) -> tuple[TrustedIssuer, Assertion]:
        """Return the issuer of a JWT and its claims, which a key of that issuer has signed.

        Raises CredentialRefusedError, and IssuerUnreachableError if the keys of the issuer cannot be fetched.
        """
        issuer = self._issuers.find(unverified.assertion.issuer)
        if issuer is None:
            raise CredentialRefusedError("the token's issuer is not trusted")
        if not unverified.key_id:
            raise CredentialRefusedError("the token's header has no kid")
        if unverified.algorithm not in issuer.algorithms:
            raise CredentialRefusedError("the token's alg is not accepted from its issuer")
        key = self._keys.find(issuer, unverified.key_id)
        if key is None:
            raise CredentialRefusedError(
                "the token names a key that its issuer does not have", details={"kid": unverified.key_id}
            )
        return issuer, unverified.prove(key)


@contextmanager
def naming_issuer(unverified: UnverifiedAssertion) -> Iterator[None]:
    """Add the issuer of a JWT to a CredentialRefusedError, for the audit trail."""
    try:
        yield
    except CredentialRefusedError as error:
        error.details["issuer"] = shown(unverified.assertion.issuer)
        raise
