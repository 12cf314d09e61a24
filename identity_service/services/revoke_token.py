"""The use case of RFC 7009: a client revokes a token by its text, as a rule one of its own.

Revoke itself accepts the text of a token as the proof of its holder. Here the client must be the one that the
token was issued to, too.
"""

from dataclasses import dataclass

from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.errors import CallerScopeMissingError
from identity_service.domain.grants import SCOPE_REVOKE
from identity_service.domain.ids import PrincipalId
from identity_service.domain.origin import NOWHERE, Origin
from identity_service.domain.secret import REFRESH_TOKEN_PREFIX, Secret
from identity_service.domain.store import SessionStore
from identity_service.services.client_proofs import AuthenticatedClient
from identity_service.services.directory import Directory
from identity_service.services.revoke import ByToken, Revoker, RevokeRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeTokenRequest:
    """A token to revoke, and the client that asks for it."""

    token: Secret
    client: AuthenticatedClient | PrincipalId
    """The client if it was authenticated, else its id, which suffices for a public client."""
    origin: Origin = NOWHERE


class TokenRevoker:
    """The use case of RFC 7009: a client revokes its own tokens, and with identity.revoke those of others."""

    def __init__(self, revoker: Revoker, sessions: SessionStore, directory: Directory) -> None:
        self._revoker = revoker
        self._sessions = sessions
        self._directory = directory

    def revoke(self, request: RevokeTokenRequest) -> None:
        """Revoke durably: an access token, or the session of a refresh token.

        Nothing happens if the text is not a token of this service, or has long expired.

        Raises:
            CallerScopeMissingError: the token was issued to another client.
            CredentialRefusedError: its client is not public, and has not authenticated itself.
            TokenNotOpenableError: the token is encrypted, and this service has no key to decrypt it.
            UnavailableError: this process's data is stale, or the store did not confirm the write.
        """
        owner = self._owner_of(request.token.reveal())
        if owner is not None:
            self._require_right(request.client, owner)
        self._revoker.revoke(RevokeRequest(target=ByToken(token=request.token), origin=request.origin))

    def _owner_of(self, text: str) -> PrincipalId | None:
        """Return the client that a token was issued to; None = there is no such token or session."""
        if not text.startswith(REFRESH_TOKEN_PREFIX):
            access_token = self._revoker.read_access_token(text)
            return None if access_token is None else access_token.client_id
        refresh_token = self._revoker.read_refresh_token(text)
        state = None if refresh_token is None else self._sessions.read(refresh_token.session_id)
        return None if state is None else state.session.client_id

    def _require_right(self, client: AuthenticatedClient | PrincipalId, owner: PrincipalId) -> None:
        if isinstance(client, AuthenticatedClient):
            if client.client.client_id == owner or SCOPE_REVOKE in client.client.scopes:
                return
        elif client == owner:
            record = self._directory.client(owner)
            if record is not None and not record.is_public:
                raise CredentialRefusedError("the client must prove itself", owner)
            return
        raise CallerScopeMissingError(
            f"the token was issued to another client; revoking it needs the scope {SCOPE_REVOKE}"
        )
