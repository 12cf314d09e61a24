"""ID-JAGs: JWTs with which a client, which has authenticated itself, acts for a user of a trusted issuer.

`domain/id_jag.py` has the rules for the claims.
"""

from dataclasses import KW_ONLY, dataclass
from datetime import datetime, timedelta

from identity_service.domain.assertions import AssertionReader, UnverifiedAssertion, remembered_until
from identity_service.domain.credential_errors import CredentialRefusedError, IdJagRefusedError
from identity_service.domain.id_jag import IdJagLimits, check_id_jag, limits_of
from identity_service.domain.ids import digest_of
from identity_service.domain.issuers import federated_id
from identity_service.domain.origin import Origin
from identity_service.domain.ports import Clock, ReplicaView
from identity_service.domain.secret import Secret
from identity_service.domain.store import SingleUse
from identity_service.services.attempts import AttemptGuard
from identity_service.services.authenticate import ClientCredential
from identity_service.services.client_proofs import AuthenticatedClient
from identity_service.services.issuers import IssuerDirectory, naming_issuer


@dataclass(frozen=True, slots=True, kw_only=True)
class IdJag:
    """An ID-JAG and the client that presents it."""

    jwt: Secret
    presenter: AuthenticatedClient
    """The client, which was authenticated just before."""
    credential: ClientCredential
    """The credential that has authenticated the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedIdJag:
    """An ID-JAG that may be used; `IdJags.use_up` must follow before a token is issued."""

    proven: AuthenticatedClient
    """The client that presents it, with the user of the issuer as the subject."""
    limits: IdJagLimits
    key: str
    """The single-use key of its `jti`."""
    until: datetime
    """The time until which the store must remember its use."""


@dataclass(frozen=True, slots=True)
class IdJags:
    """A checker of ID-JAGs, which limits how often a caller may try. Each ID-JAG works once."""

    single_use: SingleUse
    replica: ReplicaView
    issuers: IssuerDirectory
    reader: AssertionReader
    clock: Clock
    guard: AttemptGuard
    _: KW_ONLY
    audiences: tuple[str, ...]
    """The issuer names of this service, one of which must be the `aud`."""
    leeway: timedelta
    """The largest difference between the clock of an issuer and this one."""

    def check(self, presented: IdJag, origin: Origin) -> CheckedIdJag:
        """Return what an ID-JAG allows the client that presents it.

        Raises IdJagRefusedError, TooManyAttemptsError, ServerBusyError, and IssuerUnreachableError if the
        keys of the issuer cannot be fetched.
        """
        presenter = presented.presenter
        with self.guard.of_client("", origin.peer):
            try:
                unverified = self.reader.read(presented.jwt)
                with naming_issuer(unverified):
                    return self._check(unverified, presenter)
            except CredentialRefusedError as error:
                refused = IdJagRefusedError(error.why, presenter.client.client_id)
                refused.details.update(error.details)
                raise refused from error

    def use_up(self, checked: CheckedIdJag) -> None:
        """Mark an ID-JAG as used.

        Raises IdJagRefusedError if it was used before, StoreUnavailableError.
        """
        if not self.single_use.consume(checked.key, checked.until):
            raise IdJagRefusedError("it was used before", checked.proven.client.client_id)

    def _check(self, unverified: UnverifiedAssertion, presenter: AuthenticatedClient) -> CheckedIdJag:
        client_id = presenter.client.client_id
        issuer, assertion = self.issuers.prove(unverified)
        token_id = check_id_jag(
            assertion,
            issuer,
            client_id=client_id,
            audiences=self.audiences,
            now=self.clock.now(),
            leeway=self.leeway,
        )
        rule = issuer.rule_for(assertion.claims)
        if rule is None or rule.client_id != client_id:
            raise CredentialRefusedError("no rule of its issuer assigns it to the client that presents it")
        if not rule.per_subject:
            raise CredentialRefusedError("the rule of its issuer that applies to it is not per_subject")
        subject = federated_id(issuer.issuer, assertion.subject)
        # The generations of the client were read before it was authenticated: a revocation since then counts.
        generations = {**self.replica.revocations.current(subject), **presenter.generations}
        return CheckedIdJag(
            proven=AuthenticatedClient(client=presenter.client, subject=subject, generations=generations),
            limits=limits_of(assertion),
            key=f"id-jag:{digest_of(issuer.issuer)}:{digest_of(token_id)}",
            until=remembered_until(assertion, self.leeway),
        )
