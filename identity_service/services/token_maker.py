"""Builds the access token of a grant and the refresh token of a session, for Issue and Refresh alike.

The module makes no decision about grants. A use case finds the recipient of an encrypted token before it
stores or rotates anything, so that a call that fails changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from identity_service.domain.errors import EncryptionNotPossibleError, NoSigningKeyError
from identity_service.domain.exchange import Exchanged
from identity_service.domain.grants import Granted, LifetimeBounds
from identity_service.domain.ids import PrincipalId, SessionId, TokenId, key_principal, new_token_id
from identity_service.domain.log import NEVER_RAISED
from identity_service.domain.ports import Clock, EncryptingKey, KeySource, TokenCodec
from identity_service.domain.secret import RefreshToken, derive_refresh_token
from identity_service.domain.sessions import Session
from identity_service.domain.tokens import AccessToken, Actor, TokenEncryption, TokenType
from identity_service.services.client_proofs import AuthenticatedClient
from identity_service.services.directory import Directory
from identity_service.services.keyring import KeyRing

_ENCRYPTION = "encryption"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueConfig:
    """The settings of issued tokens."""

    issuer: str
    """The `iss` of this service's tokens."""
    lifetimes: LifetimeBounds = field(default_factory=LifetimeBounds)
    """The lifetimes of access tokens."""
    session_lifetime: timedelta = timedelta(days=30)
    """The lifetime of a session from its sign-in on; refreshing does not extend it."""
    known_scopes: frozenset[str] = frozenset()
    """The scopes that a request may name; empty = any that is well-formed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSet:
    """The tokens that a call returns, with their properties."""

    access_token: str = field(repr=False)
    token_type: TokenType
    """The type of the access token."""
    issue_time: datetime
    expire_time: datetime
    refresh_token: str | None = field(default=None, repr=False)
    refresh_expire_time: datetime | None = None
    audiences: tuple[str, ...]
    scopes: tuple[str, ...]
    token_id: TokenId
    session_id: SessionId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """The party that can decrypt a token."""

    key: EncryptingKey
    principal: PrincipalId | None = None
    """The principal of the key if it is this service's own; None = the key is a client's.

    The token names the principal's generation, so that retiring the key revokes the token, even in the
    decrypted form.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatableToken:
    """A token that was issued for a request, from which the next one for the same request is made."""

    token: AccessToken
    """The token, a bearer token, without its signature, and without its extra claims, which as objects take
    much memory."""
    fixed_claims: bytes
    """The claims that the next token has as well; see `TokenCodec.fixed_claims`."""


class Recipients:
    """A finder of the recipient of a token, among the service's keys and the clients' registered keys."""

    def __init__(
        self, keys: KeySource, directory: Directory, open_key: Callable[[str], EncryptingKey]
    ) -> None:
        """Find recipients among these keys and clients.

        `open_key` returns the key in a JWK, and raises ValueError if tokens cannot be encrypted to it.
        """
        self._keys = keys
        self._directory = directory
        self._open_key = open_key

    def find(self, encryption: TokenEncryption, audiences: Sequence[str]) -> Recipient | None:
        """Return the recipient of a token for these audiences; None = the token is signed only.

        Raises EncryptionNotPossibleError if the audience has no key, or is not exactly one client;
        UnavailableError.
        """
        match encryption:
            case TokenEncryption.NONE:
                return None
            case TokenEncryption.SERVICE:
                key = self._keys.encrypting()
                return Recipient(key=key, principal=key_principal(key.key_id))
            case TokenEncryption.AUDIENCE:
                return Recipient(key=self._key_of(audiences))

    def _key_of(self, audiences: Sequence[str]) -> EncryptingKey:
        if len(audiences) != 1:
            raise EncryptionNotPossibleError.of(
                _ENCRYPTION, "for the audience needs exactly one audience: name it, and no other"
            )
        client = self._directory.client(PrincipalId(audiences[0]))
        if client is None or client.disabled or client.encryption_key is None:
            raise EncryptionNotPossibleError.of(
                _ENCRYPTION,
                "for the audience needs a client with the id of the audience and an encryption_key",
            )
        try:
            return self._open_key(client.encryption_key)
        except ValueError:  # the key was registered before a rule that refuses it
            raise EncryptionNotPossibleError.of(
                _ENCRYPTION,
                "for the audience is not possible: its encryption_key is no longer accepted; replace it",
            ) from None


class TokenMaker:
    """A maker of signed tokens from grants and sessions."""

    def __init__(self, codec: TokenCodec, keys: KeyRing, clock: Clock, config: IssueConfig) -> None:
        self._codec = codec
        self._keys = keys
        self._clock = clock
        self._config = config

    def for_client(
        self,
        proven: AuthenticatedClient,
        granted: Granted,
        *,
        claims: Mapping[str, object],
        certificate_sha256: bytes | None,
        key_sha256: bytes | None,
        may_act: PrincipalId | None,
    ) -> AccessToken:
        """Return a token for `sign`; no refresh token comes with it (RFC 6749 section 4.4.3)."""
        issue_time = self._clock.now().replace(microsecond=0)
        return AccessToken(
            issuer=self._config.issuer,
            subject=proven.subject,
            client_id=proven.client.client_id,
            audiences=granted.audiences,
            scopes=granted.scopes,
            token_id=new_token_id(),
            issue_time=issue_time,
            expire_time=issue_time + granted.lifetime,
            may_act=Actor(subject=may_act) if may_act is not None else None,
            generations=proven.generations,
            certificate_sha256=certificate_sha256,
            key_sha256=key_sha256,
            claims=claims,
        )

    def repeatable(self, token: AccessToken) -> RepeatableToken:
        """Return what `repeat` needs to sign such a token again."""
        return RepeatableToken(token=replace(token, claims={}), fixed_claims=self._codec.fixed_claims(token))

    def repeat(self, repeatable: RepeatableToken) -> TokenSet:
        """Return a token like an earlier one, with an id and times of its own."""
        token, token_id = repeatable.token, new_token_id()
        issue_time = self._clock.now().replace(microsecond=0)
        expire_time = issue_time + (token.expire_time - token.issue_time)
        return TokenSet(
            access_token=self._codec.sign_repeated(
                repeatable.fixed_claims, token_id=token_id, issue_time=issue_time, expire_time=expire_time
            ),
            token_type=TokenType.BEARER,
            issue_time=issue_time,
            expire_time=expire_time,
            audiences=token.audiences,
            scopes=token.scopes,
            token_id=token_id,
        )

    def for_exchange(
        self,
        subject_token: AccessToken,
        exchanged: Exchanged,
        client_id: PrincipalId,
        *,
        issue_time: datetime,
        certificate_sha256: bytes | None,
        key_sha256: bytes | None,
        recipient: Recipient | None = None,
    ) -> TokenSet:
        """Return an access token with the subject, session and sign-in time of `subject_token`."""
        return self.sign(
            AccessToken(
                issuer=self._config.issuer,
                subject=subject_token.subject,
                client_id=client_id,
                audiences=exchanged.audiences,
                scopes=exchanged.scopes,
                token_id=new_token_id(),
                session_id=subject_token.session_id,
                issue_time=issue_time,
                expire_time=exchanged.expire_time,
                auth_time=subject_token.auth_time,
                actors=exchanged.actors,
                may_act=exchanged.may_act,
                generations=exchanged.generations,
                certificate_sha256=certificate_sha256,
                key_sha256=key_sha256,
                claims=exchanged.claims,
            ),
            recipient,
        )

    def for_session(
        self,
        session: Session,
        *,
        audiences: tuple[str, ...],
        scopes: tuple[str, ...],
        certificate_sha256: bytes | None,
        key_sha256: bytes | None,
        recipient: Recipient | None = None,
    ) -> TokenSet:
        """Return an access token of the session, bound to these, and the session's latest refresh token.

        Raises NoSigningKeyError if the store has lost the session's refresh key or the signing key.
        """
        key = self._keys.refresh_key(session.key_id)
        if key is None:
            raise NoSigningKeyError("the refresh key of this session is not in the store; restore it")
        issue_time = self._clock.now().replace(microsecond=0)
        return self.sign(
            AccessToken(
                issuer=self._config.issuer,
                subject=session.subject,
                client_id=session.client_id,
                audiences=audiences,
                scopes=scopes,
                token_id=new_token_id(),
                session_id=session.session_id,
                issue_time=issue_time,
                expire_time=min(issue_time + session.lifetime, session.expire_time.replace(microsecond=0)),
                auth_time=session.auth_time.replace(microsecond=0),
                may_act=Actor(subject=session.may_act) if session.may_act is not None else None,
                generations=session.generations,
                certificate_sha256=certificate_sha256,
                key_sha256=key_sha256,
                claims=session.claims,
            ),
            recipient,
            refresh_token=derive_refresh_token(
                key,
                RefreshToken(key_id=session.key_id, session_id=session.session_id, number=session.latest),
            ),
            refresh_expire_time=session.expire_time,
        )

    def sign(
        self,
        token: AccessToken,
        recipient: Recipient | None,
        refresh_token: str | None = None,
        refresh_expire_time: datetime | None = None,
    ) -> TokenSet:
        """Sign an access token, and encrypt it to its recipient if there is one."""
        if recipient is not None and recipient.principal is not None:
            token = replace(token, generations={recipient.principal: NEVER_RAISED, **token.generations})
        return TokenSet(
            access_token=self._codec.sign(token, recipient.key if recipient is not None else None),
            token_type=type_of(token),
            issue_time=token.issue_time,
            expire_time=token.expire_time,
            refresh_token=refresh_token,
            refresh_expire_time=refresh_expire_time,
            audiences=token.audiences,
            scopes=token.scopes,
            token_id=token.token_id,
            session_id=token.session_id,
        )


def type_of(token: AccessToken) -> TokenType:
    """Return the type by which a token is shown (RFC 6749 section 7.1, RFC 9449)."""
    return TokenType.BEARER if token.key_sha256 is None else TokenType.DPOP
