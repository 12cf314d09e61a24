"""Token exchange (RFC 8693): issues a token for the subject of another token, naming the actor.

The client is authenticated and both tokens are verified here; `domain/exchange.py` decides what is granted.
The records of the subject and the actor are not read: disabling or deleting one of them raises its
generation, so its token does not verify any more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.credential_errors import SubjectTokenRefusedError
from identity_service.domain.dpop import DpopProof
from identity_service.domain.exchange import ExchangeCase, decide_exchange
from identity_service.domain.grants import GrantRequest, LifetimeBounds
from identity_service.domain.ids import PrincipalId
from identity_service.domain.origin import Origin, sha256_of
from identity_service.domain.ports import AuditTrail, Clock
from identity_service.domain.secret import Secret
from identity_service.domain.tokens import AccessToken, Rejected, TokenEncryption
from identity_service.services.authenticate import Authenticator, ClientCredential, bind
from identity_service.services.dpop import DpopProofs
from identity_service.services.token_maker import Recipients, TokenMaker, TokenSet
from identity_service.services.verify import Verifier, VerifyRequest, check_binding


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRequest:
    """The tokens of an exchange."""

    subject_token: Secret
    """An access token of the principal to act for."""
    actor_token: Secret | None = None
    """An access token of the principal that acts; None = the client itself acts."""


@dataclass(frozen=True, slots=True)
class Exchanger:
    """The token exchange, a part of the use case Issue."""

    authenticator: Authenticator
    verifier: Verifier[Any]
    maker: TokenMaker
    recipients: Recipients
    proofs: DpopProofs
    clock: Clock
    audit: AuditTrail
    lifetimes: LifetimeBounds

    def exchange(
        self,
        request: ExchangeRequest,
        credential: ClientCredential,
        wanted: GrantRequest,
        origin: Origin,
        proof: DpopProof | None,
        *,
        claims: Mapping[str, object],
        may_act: PrincipalId | None,
        encryption: TokenEncryption = TokenEncryption.NONE,
    ) -> TokenSet:
        """Authenticate the client, verify the tokens, and return an access token for the subject.

        The new token is bound to the key of `proof`, which was checked; None = the request has no proof.

        Raises:
            SubjectTokenRefusedError: one of the tokens does not verify.
            BindingRequiredError: the token must be bound, and the request has neither a certificate nor a
                proof.
            EncryptionNotPossibleError: the audience has no encryption key.

        Also raises the errors of `Authenticator.client`, `Verifier.verify` and `decide_exchange`.
        """
        proven = self.authenticator.client(credential, origin)
        subject = self._verified("subject_token", request.subject_token, origin, proof)
        actor = None
        if request.actor_token is not None:
            actor = self._verified("actor_token", request.actor_token, origin, proof)
        key_sha256 = self.proofs.bind(proof) if proof is not None else None
        case = ExchangeCase(
            subject_token=subject,
            actor_token=actor,
            client=proven.client,
            client_subject=proven.subject,
            generations=proven.generations,
        )
        issue_time = self.clock.now().replace(microsecond=0)
        if subject.expire_time <= issue_time:  # it verifies within the leeway only; no lifetime is left
            raise SubjectTokenRefusedError("subject_token", "EXPIRED")
        exchanged = decide_exchange(case, wanted, self.lifetimes, issue_time, claims=claims, may_act=may_act)
        bound = bind(proven.client, credential, origin.certificate, key_sha256)
        tokens = self.maker.for_exchange(
            subject,
            exchanged,
            proven.client.client_id,
            issue_time=issue_time,
            certificate_sha256=bound,
            key_sha256=key_sha256,
            recipient=self.recipients.find(encryption, exchanged.audiences),
        )
        self.audit.record(
            AuditEvent.of(
                AuditType.TOKEN_EXCHANGED,
                origin,
                actor=case.actor.subject,
                target=subject.subject,
                client_id=proven.client.client_id,
                token_id=tokens.token_id,
                subject_token_id=subject.token_id,
                actor_token_id=actor.token_id if actor is not None else None,
            )
        )
        return tokens

    def _verified(self, field: str, token: Secret, origin: Origin, proof: DpopProof | None) -> AccessToken:
        request = VerifyRequest(token=token.reveal(), any_audience=True, any_holder=True)
        answer = self.verifier.verify(request)
        if isinstance(answer, Rejected):
            raise SubjectTokenRefusedError(field, answer.reason)
        found = answer.token
        # If this token is bound to no key, the proof is for the new token alone.
        key = proof.key_sha256 if proof is not None and found.key_sha256 is not None else b""
        if mismatch := check_binding(found, sha256_of(origin.certificate), key):
            raise SubjectTokenRefusedError(field, mismatch.reason)
        return found
