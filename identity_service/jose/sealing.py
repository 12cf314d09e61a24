"""Sealing: what must be kept secret in the store, as JWE (dir, A256GCM) under the master key.

Owns the derivation of the key from the master key's text. RFC 7516; HKDF is RFC 5869.
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
"""Characters. What is random has more: of a million keys of 32 hexadecimal digits not one has so few."""
_LABEL: Final = b"identityapi.v1 master key"


class _Registry(JWERegistry):
    """The library's bounds, but for the length of what is sealed: 4 MiB, a line of a backup."""

    max_ciphertext_length = 4 * 2**20


_REGISTRY: Final = _Registry(algorithms=["dir", "A256GCM"])


class Sealer:
    """Seals and opens texts, each bound to the name of what it belongs to: a record, a line of a backup."""

    def __init__(
        self, master_key: Secret, other: Secret | None = None, *, untrimmed: Secret | None = None
    ) -> None:
        """
        Args:
            master_key: seals and opens.
            other: opens as well, while one is changed for the other.
            untrimmed: opens as well: the master key as older versions took it from a variable.

        Raises ConfigurationError where a master key is not random: short, blank, or a character repeated.
        """
        self._key = _derive(master_key)
        self._others = [_derive(each) for each in (other, untrimmed) if each is not None]

    def seal(self, secret: str, key_id: str) -> str:
        """A compact JWE that `open` gives back for the same `key_id` only."""
        header = {"alg": "dir", "enc": "A256GCM", "kid": key_id}
        return jwe.encrypt_compact(header, secret.encode(), self._key, registry=_REGISTRY)

    def open(self, sealed: str, key_id: str) -> str:
        """Raises ConfigurationError: another master key sealed it, or it belongs to another record."""
        opened = self._opened(sealed)
        if opened is None:
            raise ConfigurationError(
                f"the master key does not open the key {key_id} of this store; set master_key or "
                "master_key_file to the one that `identity init` or `identity key rewrap` was last run with"
            )
        if opened.protected.get("kid") != key_id or opened.plaintext is None:
            raise ConfigurationError("a sealed key lies in the record of another key; restore the store")
        return opened.plaintext.decode()

    def open_text(self, sealed: str, name: str) -> str | None:
        """Return the text that was sealed under this name; None = of another key or name, or damaged.

        Any other text than the one that `seal` returned is None: the library takes one spelling of base64url.
        """
        opened = self._opened(sealed)
        if opened is None or opened.protected.get("kid") != name or opened.plaintext is None:
            return None
        return opened.plaintext.decode()

    def is_current(self, sealed: str) -> bool:
        """Whether it opens with the master key alone, without the other one."""
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
