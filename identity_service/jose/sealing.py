"""Sealing: what must be kept secret in the store, as JWE (dir, A256GCM) under the master key.

Owns the derivation of the key from the master key's text. RFC 7516; HKDF is RFC 5869.
"""

from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from identity_service.domain.errors import ConfigurationError
from identity_service.domain.secret import Secret

MIN_MASTER_KEY_CHARS: Final = 32
_LABEL: Final = b"identityapi.v1 master key"
_ALGORITHMS: Final = ["dir", "A256GCM"]


class Sealer:
    """Seals and opens small secrets, each bound to the id of the record that it belongs to."""

    def __init__(self, master_key: Secret) -> None:
        """Raises ConfigurationError where the master key is too short to be random."""
        text = master_key.reveal()
        if len(text) < MIN_MASTER_KEY_CHARS:
            raise ConfigurationError(
                f"the master key must have at least {MIN_MASTER_KEY_CHARS} characters; "
                "make one with `openssl rand -base64 32`"
            )
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_LABEL).derive(text.encode())
        self._key = OctKey.import_key(derived)

    def seal(self, secret: str, key_id: str) -> str:
        """A compact JWE that `open` gives back for the same `key_id` only."""
        header = {"alg": "dir", "enc": "A256GCM", "kid": key_id}
        return jwe.encrypt_compact(header, secret.encode(), self._key, algorithms=_ALGORITHMS)

    def open(self, sealed: str, key_id: str) -> str:
        """Raises ConfigurationError: another master key sealed it, or it belongs to another record."""
        try:
            opened = jwe.decrypt_compact(sealed, self._key, algorithms=_ALGORITHMS)
        except (JoseError, ValueError) as error:
            raise ConfigurationError(
                "the master key does not open the keys of this store; "
                "set master_key or master_key_file to the one that `identity init` was run with"
            ) from error
        if opened.protected.get("kid") != key_id or opened.plaintext is None:
            raise ConfigurationError("a sealed key lies in the record of another key; restore the store")
        return opened.plaintext.decode()
