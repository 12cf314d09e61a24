"""One call as a servicer gets it: its origin, its id, and its caller, authenticated by token or certificate.

The access token comes in metadata, and is verified like any other, for the audience of this service. A token
that is bound to a key comes with the scheme DPoP and a proof (RFC 9449). If a call has both a token and a
client certificate, the token decides: a client that sends a token wants to act as the subject of the token.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from functools import cached_property, partial
from typing import Any, Final, cast
from urllib.parse import unquote

import grpc
import structlog

from identity_service.domain.audit import AuditType
from identity_service.domain.dpop import DpopProof
from identity_service.domain.errors import (
    CallerScopeMissingError,
    CallerUnauthenticatedError,
    DpopProofRefusedError,
)
from identity_service.domain.grants import SCOPE_ADMIN
from identity_service.domain.ids import PrincipalId, SessionId
from identity_service.domain.origin import Origin, PeerCertificate, sha256_of
from identity_service.domain.ports import AuditTrail
from identity_service.domain.tokens import Rejected, TokenType
from identity_service.grpc_api.proofs import PROOF, CallProofs
from identity_service.services.audit import record_refusal
from identity_service.services.directory import Directory
from identity_service.services.dpop import DpopProofs
from identity_service.services.verify import StoreReadRequiredError, Verifier, VerifyRequest
from identity_service.telemetry.trace_context import trace_fields
from identity_service.transport.client_certificates import has_expired, peer_certificate
from identity_service.transport.quotas import Peers
from identity_service.transport.request_ids import REQUEST_ID, request_id
from identity_shared.token_ids import hash_token_id, unverified_token_id

_HEADER: Final = "authorization"
_NEEDED: Final = (
    "this method needs metadata `authorization: Bearer <access token>`, or DPoP if the token is bound to a "
    "key, for audience "
)
_PEER_KINDS: Final = ("ipv4:", "ipv6:")
_PEER_KIND: Final = "ipvN:"
_PEM: Final = "x509_pem_cert"
_RESUMED: Final = "ssl_session_reused"
_URI: Final = "peer_uri"
_DNS: Final = "peer_dns"


class Access(Enum):
    """The condition that a caller of a method must meet."""

    OPEN = auto()
    """No condition: the request carries its own proof, or there is nothing to protect."""
    SCOPE = auto()
    """The caller has the scope."""
    OWN_OR_SCOPE = auto()
    """The caller is authenticated. For objects that are not its own it needs the scope.

    A party that acts for another one (token exchange) needs the scope for the objects of that one, too.
    """
    SCOPE_WHERE_CONFIGURED = auto()
    """The caller has the scope, if the setting `require_caller_auth` is on; otherwise there is no
    condition."""
    HOLDER_OR_SCOPE = auto()
    """The caller has the scope, unless the request contains the very token that it is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRule:
    """The condition that the callers of a method must meet, and the scope that it names."""

    access: Access
    scope: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The authenticated principal that sends a call."""

    principal: PrincipalId
    scopes: frozenset[str]
    session_id: SessionId | None = None
    is_delegated: bool = False
    """True if another party acts for the principal, by token exchange (RFC 8693).

    Such a party has no access to the objects that belong to the principal itself, such as its sessions.
    """
    is_revoked: Callable[[], bool] = field(default=lambda: False, repr=False, compare=False)
    """Tells whether the token has been revoked since, or the client of the certificate was disabled or lost
    the scope. It may wait for the store, and raise UnavailableError."""

    @property
    def is_admin(self) -> bool:
        """Return whether the caller has the scope identity.admin."""
        return SCOPE_ADMIN in self.scopes


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call, as it is passed to the function that serves it."""

    context: grpc.ServicerContext
    method: str
    """The full name of the method, such as `/identityapi.v1.IdentityService/Issue`."""
    request_id: str
    caller: Caller | None
    """The caller; None if the method requires no authenticated caller."""
    peers: Peers
    """Tells for which client a trusted proxy forwards a call."""
    proofs: CallProofs
    """Reads the DPoP proof of a call."""
    data: bytes = field(repr=False)
    """The request as it was received, which may hold secrets."""

    @cached_property
    def origin(self) -> Origin:
        """The origin for use cases; read from the transport when it is first needed."""
        caller = self.caller
        return Origin(
            peer=client_of(self.context, self.peers),
            request_id=self.request_id,
            certificate=client_certificate_of(self.context, self.peers),
            actor=caller.principal if caller is not None else None,
            session_id=caller.session_id if caller is not None else None,
            is_admin=caller is not None and caller.is_admin,
        )

    @cached_property
    def shows_proof(self) -> bool:
        """True if the call has a DPoP proof, valid or not; most calls have none."""
        return shows_proof(self.context)

    @property
    def origin_with_proof(self) -> Origin:
        """Return the origin for issuing tokens, with the call's DPoP proof. Raises DpopProofRefusedError."""
        if not self.shows_proof:
            return self.origin
        return replace(self.origin, proof=self.proofs.shown(self.method, self.context))


class CallerGate:
    """A gate that enforces the access rule of a method on one call."""

    def __init__(
        self,
        verifier: Verifier[Any],
        directory: Directory,
        audit: AuditTrail,
        peers: Peers,
        dpop: DpopProofs,
        proofs: CallProofs,
        *,
        audience: str,
        require_caller_auth: bool,
    ) -> None:
        self.proofs = proofs
        """Reads the DPoP proofs of calls."""
        self._dpop = dpop
        self._verifier = verifier
        self._directory = directory
        self._audit = audit
        self._peers = peers
        self._audience = audience
        self._require_caller_auth = require_caller_auth

    def applies(self, rule: AccessRule, request: Any) -> bool:  # any message
        """Return whether this call must have an authenticated caller.

        The request matters only for `Access.HOLDER_OR_SCOPE`.
        """
        match rule.access:
            case Access.OPEN:
                return False
            case Access.SCOPE | Access.OWN_OR_SCOPE:
                return True
            case Access.SCOPE_WHERE_CONFIGURED:
                return self._require_caller_auth
            case Access.HOLDER_OR_SCOPE:
                # A client that can send a token holds it, so the token is its own proof. A request without a
                # target is refused as invalid later, for every caller.
                return request.WhichOneof("target") not in ("token", None)

    def admit(
        self, method: str, rule: AccessRule, context: grpc.ServicerContext, *, may_wait: bool = True
    ) -> Caller:
        """Return the caller; it has the rule's scope unless the rule allows access to its own objects.

        A refusal is recorded as an audit event.

        Raises CallerUnauthenticatedError, CallerScopeMissingError, DpopProofRefusedError,
        DpopNonceRequiredError, UnavailableError; StoreReadRequiredError if `may_wait` is false, and the
        answer needs a read of the store or the check of a proof.
        """
        try:
            return self._admit(method, rule, context, may_wait=may_wait)
        except (CallerUnauthenticatedError, CallerScopeMissingError, DpopProofRefusedError) as error:
            # A response may be cached, so calls of Verify bind nothing before they fail.
            bind_trace(context)
            certificate = client_certificate_of(context, self._peers)
            origin = Origin(peer=client_of(context, self._peers), certificate=certificate)
            record_refusal(self._audit, AuditType.CALL_REFUSED, error, origin, target=method)
            raise

    def _admit(
        self, method: str, rule: AccessRule, context: grpc.ServicerContext, *, may_wait: bool
    ) -> Caller:
        values = [value for key, value in context.invocation_metadata() if key == _HEADER]
        certificate = client_certificate_of(context, self._peers)
        if values:
            scheme, text = self._authorization(values)
            if scheme is TokenType.BEARER:
                caller = self._by_token(text, certificate, None, may_wait=may_wait)
            else:
                caller = self._by_bound_token(text, certificate, method, context, may_wait=may_wait)
        else:
            caller = self._by_certificate(certificate, rule.scope, may_wait=may_wait)
        may_own = rule.access is Access.OWN_OR_SCOPE and not caller.is_delegated
        if not may_own and rule.scope not in caller.scopes:
            raise CallerScopeMissingError(f"the caller lacks the scope {rule.scope}")
        return caller

    def _authorization(self, values: Sequence[str | bytes]) -> tuple[TokenType, str]:
        """Return the scheme and the token of the metadata `authorization`."""
        if len(values) == 1 and isinstance(values[0], str):
            scheme, _, text = values[0].partition(" ")
            for kind in TokenType:
                if scheme.lower() == kind.lower():
                    return kind, text
        raise self._unauthenticated()

    def _by_bound_token(
        self,
        text: str,
        certificate: PeerCertificate | None,
        method: str,
        context: grpc.ServicerContext,
        *,
        may_wait: bool,
    ) -> Caller:
        """Return the caller with a token that is bound to a key, after checking the proof by that key."""
        if not may_wait:
            # A thread verifies the signature of the proof; an event loop would be held up by it. The call
            # must not be checked twice either, since its proof works once.
            raise StoreReadRequiredError
        presented = self.proofs.shown(method, context)
        if presented is None:
            raise CallerUnauthenticatedError(f"the scheme DPoP needs a proof in metadata `{PROOF}`")
        proof = self._dpop.check(presented, access_token=text)
        caller = self._by_token(text, certificate, proof, may_wait=True)
        self._dpop.consume_here(proof)
        context.set_trailing_metadata(self.proofs.next_nonce())
        return caller

    def _by_token(
        self, text: str, certificate: PeerCertificate | None, proof: DpopProof | None, *, may_wait: bool
    ) -> Caller:
        answer = self._verifier.verify(
            VerifyRequest(
                token=text,
                audiences=(self._audience,),
                certificate_sha256=sha256_of(certificate),
                key_sha256=proof.key_sha256 if proof is not None else b"",
                may_wait=may_wait,
            )
        )
        if isinstance(answer, Rejected):
            raise CallerUnauthenticatedError(
                f"the caller's token was rejected: {answer.reason}",
                token_id_sha256=hash_token_id(unverified_token_id(text)),
            )
        token = answer.token
        return Caller(
            principal=token.subject,
            scopes=frozenset(token.scopes),
            session_id=token.session_id,
            is_delegated=bool(token.actors),
            is_revoked=partial(self._verifier.is_revoked, answer),
        )

    def _by_certificate(self, certificate: PeerCertificate | None, scope: str, *, may_wait: bool) -> Caller:
        if certificate is None:
            raise self._unauthenticated()
        client = self._directory.client_of(certificate, may_wait=may_wait)
        if client is None or client.disabled:
            raise self._unauthenticated()

        def is_revoked() -> bool:
            now = self._directory.client_of(certificate)
            return now is None or now.disabled or scope not in now.scopes

        return Caller(principal=client.client_id, scopes=client.scopes, is_revoked=is_revoked)

    def _unauthenticated(self) -> CallerUnauthenticatedError:
        return CallerUnauthenticatedError(f"{_NEEDED}{self._audience!r}, or a client certificate")


def shows_proof(context: grpc.ServicerContext) -> bool:
    """Return whether a call has a DPoP proof, valid or not."""
    return any(key == PROOF for key, _ in context.invocation_metadata())


def bind_trace(context: grpc.ServicerContext) -> None:
    """Show the trace id in the log lines of a call from now on, if its client has sent one."""
    structlog.contextvars.bind_contextvars(**trace_fields(context.invocation_metadata()))


def request_id_of(context: grpc.ServicerContext) -> str:
    """Return the client's `x-request-id` if it is 1 to 128 visible ASCII characters, else a new id."""
    metadata = context.invocation_metadata()
    return request_id(value for key, value in metadata if key == REQUEST_ID and isinstance(value, str))


def peer_of(context: grpc.ServicerContext) -> str:
    """Return host:port of the other end of the connection; empty if it has no network address."""
    peer = context.peer()
    return unquote(peer[len(_PEER_KIND) :]) if peer.startswith(_PEER_KINDS) else ""


def client_of(context: grpc.ServicerContext, peers: Peers) -> str:
    """Return host:port of the client: the peer, or the client for which a trusted proxy forwards the call."""
    return peers.client_of(context.peer(), context.invocation_metadata) or peer_of(context)


def client_certificate_of(context: grpc.ServicerContext, peers: Peers) -> PeerCertificate | None:
    """Return the client certificate: of the connection, or as a trusted proxy forwards it; None = none."""
    return peers.certificate_of(context.peer(), context.invocation_metadata, lambda: certificate_of(context))


def certificate_of(context: grpc.ServicerContext) -> PeerCertificate | None:
    """Return the certificate of the connection, which the TLS handshake has verified; None if there is none.

    It is never the certificate of a client behind a proxy, whatever the metadata says. A certificate with a
    weak key counts as none, and so does one that has expired when a session of TLS is resumed.
    """
    # The type stubs differ, but every value is a list of bytes.
    properties = cast("Mapping[str, Sequence[bytes]]", context.auth_context())
    pem = next(iter(properties.get(_PEM, ())), None)
    resumed = next(iter(properties.get(_RESUMED, ())), None) == b"true"
    if pem is None or (resumed and has_expired(pem)):
        return None
    return peer_certificate(pem, properties.get(_URI, ()), properties.get(_DNS, ()))
