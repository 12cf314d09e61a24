"""Sealing: encryption of the secrets in the store, as JWE (dir, A256GCM) under the master key (RFC 7516).

The module contains the derivation of the key from the master key's text (HKDF, RFC 5869).
"""

from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwe import JWERegistry
from joserfc.jwk import OctKey

from identity_service.domain.errors import ConfigurationError
from identity_service.domain.secret import Secret

MIN_MASTER_KEY_CHARS: Final = 32
_MIN_DISTINCT: Final = 3
"""The least number of distinct characters in a master key. Random keys have more: of a million keys of 32
hexadecimal digits not one has fewer."""
_LABEL: Final = b"identityapi.v1 master key"


class _Registry(JWERegistry):
    """The limits of joserfc, except for the length of the ciphertext: 4 MiB, for a line of a backup."""

    max_ciphertext_length = 4 * 2**20


_REGISTRY: Final = _Registry(algorithms=["dir", "A256GCM"])


class Sealer:
    """An encryptor of texts, each bound to the name of the record or backup line that holds it."""

    def __init__(
        self, master_key: Secret, other: Secret | None = None, *, untrimmed: Secret | None = None
    ) -> None:
        """Derive the encryption keys from the master keys.

        Args:
            master_key: seals and opens.
            other: also opens, while the master key is being replaced.
            untrimmed: also opens: the master key as older versions read it from a variable, with surrounding
                spaces.

        Raises:
            ConfigurationError: a master key is not random: short, blank, or one or two characters repeated.
        """
        self._key = _derive(master_key)
        self._others = [_derive(each) for each in (other, untrimmed) if each is not None]

    def seal(self, secret: str, key_id: str) -> str:
        """Return a compact JWE, which `open` decrypts only for the same `key_id`."""
        header = {"alg": "dir", "enc": "A256GCM", "kid": key_id}
        return jwe.encrypt_compact(header, secret.encode(), self._key, registry=_REGISTRY)

    def open(self, sealed: str, key_id: str) -> str:
        """Return the secret in a JWE that `seal` returned.

        Raises ConfigurationError if it was sealed with another master key, or for another record.
        """
        opened = self._opened(sealed)
        if opened is None:
            raise ConfigurationError(
                f"the master key does not open the key {key_id} of this store; set master_key or "
                "master_key_file to the one that `identity init` or `identity key rewrap` was last run with"
            )
        if opened.protected.get("kid") != key_id or opened.plaintext is None:
            raise ConfigurationError("the record of a key contains another key; restore a backup")
        return opened.plaintext.decode()

    def open_text(self, sealed: str, name: str) -> str | None:
        """Return the text that was sealed under this name.

        Returns None if it was sealed with another key or name, or differs in any character from what `seal`
        returned: the library accepts only one spelling of base64url.
        """
        opened = self._opened(sealed)
        if opened is None or opened.protected.get("kid") != name or opened.plaintext is None:
            return None
        return opened.plaintext.decode()

    def is_current(self, sealed: str) -> bool:
        """Return whether a sealed text opens with the master key itself, not with one of the others."""
        return self._decrypt(sealed, self._key) is not None

    def _opened(self, sealed: str) -> jwe.CompactEncryption | None:
        attempts = (self._decrypt(sealed, key) for key in (self._key, *self._others))
        return next((opened for opened in attempts if opened is not None), None)

    def _decrypt(self, sealed: str, key: OctKey) -> jwe.CompactEncryption | None:
        try:
            return jwe.decrypt_compact(sealed, key, registry=_REGISTRY)
        except (JoseError, ValueError):
            return None


def _derive(master_key: Secret) -> OctKey:
    text = master_key.reveal()
    if len({*text.strip()}) < _MIN_DISTINCT:
        raise ConfigurationError(
            "the master key is blank, or repeats one or two characters; "
            "make one with `openssl rand -base64 32`"
        )
    if len(text) < MIN_MASTER_KEY_CHARS:
        raise ConfigurationError(
            f"the master key must have at least {MIN_MASTER_KEY_CHARS} characters; "
            "make one with `openssl rand -base64 32`"
        )
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_LABEL).derive(text.encode())
    return OctKey.import_key(derived)
