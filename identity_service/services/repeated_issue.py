"""Issue for a client that repeats an earlier request, byte for byte: the decisions are not made again.

Most clients send the same bytes, with their id and secret, each time that a token ends. The bytes and the
client's record decide the audiences, the scopes, the lifetime and the claims, so these are kept with a digest
of the bytes. Everything that may change is checked on every call. The module refuses nothing: if any check
fails, the request goes through Issue as if it were the first one.

docs/decisions/0031-a-repeated-issue-is-recognised-by-its-bytes.md has the argument.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.ids import EVERYONE, PrincipalId
from identity_service.domain.log import Generation
from identity_service.domain.ports import AuditTrail, Clock, ReplicaView
from identity_service.domain.principals import Client
from identity_service.domain.secret import Secret, digest_matches_any, digest_of_secret
from identity_service.domain.tokens import AccessToken
from identity_service.services.attempts import AttemptGuard
from identity_service.services.directory import Directory
from identity_service.services.token_maker import RepeatableToken, TokenMaker, TokenSet
from identity_shared.lru_cache import Entry, LruCache

_CACHE_BYTES: Final = 8 * 1024 * 1024
_ENTRY_BYTES: Final = 3000
"""The memory of a kept request in bytes, in addition to three times the length of its claims."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantedRequest:
    """A request that was granted, and what was decided for it."""

    client: Client
    """The record by which it was decided."""
    secret_sha256: bytes
    """The digest of the secret that the request holds, in the form in which the store holds it."""
    token: RepeatableToken


class RepeatedIssue:
    """The use case Issue for requests of clients that were granted before."""

    def __init__(
        self,
        replica: ReplicaView,
        directory: Directory,
        guard: AttemptGuard,
        maker: TokenMaker,
        clock: Clock,
        audit: AuditTrail,
    ) -> None:
        self._replica = replica
        self._directory = directory
        self._guard = guard
        self._maker = maker
        self._clock = clock
        self._audit = audit
        self._granted: LruCache[bytes, GrantedRequest] = LruCache(_CACHE_BYTES)
        self.find = self._granted.find
        """Return what is kept of a request, by its digest; None if it has to be decided."""

    def keep(self, digest: bytes, client: Client, secret: Secret, token: AccessToken) -> None:
        """Keep a request that was granted.

        Args:
            digest: a collision-resistant digest of the request, in which its secret is.
            client: the record of the client that the secret has proven.
            secret: the secret.
            token: the token that it got; signed only, and bound to neither a certificate nor a key.
        """
        repeatable = self._maker.repeatable(token)
        weight = _ENTRY_BYTES + 3 * len(repeatable.fixed_claims)
        granted = GrantedRequest(client=client, secret_sha256=digest_of_secret(secret), token=repeatable)
        self._granted.put(digest, granted, weight)

    def issue(self, entry: Entry[GrantedRequest], peer: str, request_id: str) -> TokenSet | None:
        """Return the tokens for a request that was granted before; None if it has to be decided.

        Args:
            entry: the result of `find` for the request, which comes without a DPoP proof.
            peer: host:port of the caller, or empty.
            request_id: the id of the call.

        Raises UnavailableError if this process's data is stale, or it has no signing key; InvalidRequestError
        if keys with longer signatures have come, and the token would be too long.
        """
        entry.used, known = True, entry.value
        self._replica.require_fresh()
        client, token = known.client, known.token
        # Read before the record: if the generation is raised in between, the new token has the old one and
        # is refused. Read after it, the token would escape the revocation.
        generations: Mapping[PrincipalId, Generation] = self._replica.revocations.current(
            EVERYONE, client.client_id
        )
        # The directory returns the same object until the record may have changed.
        if self._directory.client(client.client_id) is not client or generations != token.token.generations:
            return None
        if not self._guard.is_clear_for(client.client_id, peer):
            return None
        if not digest_matches_any(known.secret_sha256, client.secrets, self._clock.now()):
            return None
        tokens = self._maker.repeat(token)
        self._audit.record(
            AuditEvent(
                type=AuditType.TOKEN_ISSUED,
                actor=client.client_id,
                target=client.client_id,
                peer=peer,
                request_id=request_id,
                details={"client_id": client.client_id, "token_id": tokens.token_id},
            )
        )
        return tokens
