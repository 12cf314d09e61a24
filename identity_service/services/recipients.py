"""Finds the key that an access token is encrypted with. Knows no cryptography.

The use cases find it before they store or rotate anything, so that a call that fails changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from identity_service.domain.errors import EncryptionNotPossibleError
from identity_service.domain.ids import PrincipalId, key_principal
from identity_service.domain.ports import EncryptingKey, EncryptionKeyReader, KeySource
from identity_service.domain.tokens import TokenEncryption
from identity_service.services.directory import Directory

_FIELD = "encryption"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """The party that can decrypt a token."""

    key: EncryptingKey
    principal: PrincipalId | None = None
    """The principal of the key if it is this service's own; None = the key is a client's.

    The token names the principal's generation, so that retiring the key revokes the token, even in the
    decrypted form.
    """


class Recipients:
    """Finds the recipient of encrypted tokens, from the service's keys and the clients' registered keys."""

    def __init__(self, keys: KeySource, directory: Directory, reader: EncryptionKeyReader) -> None:
        self._keys = keys
        self._directory = directory
        self._reader = reader

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
            raise EncryptionNotPossibleError.of(_FIELD, "for the audience needs exactly one audience")
        client = self._directory.client(PrincipalId(audiences[0]))
        if client is None or client.disabled or client.encryption_key is None:
            raise EncryptionNotPossibleError.of(
                _FIELD, "for the audience needs a client with the id of the audience and an encryption_key"
            )
        try:
            return self._reader.open_encryption_key(client.encryption_key)
        except ValueError:  # the key was registered before a rule that refuses it
            raise EncryptionNotPossibleError.of(
                _FIELD,
                "for the audience is not possible: its encryption_key is no longer accepted; replace it",
            ) from None
