"""Checks that the master key opens a key, since a backup with keys that it does not open is useless."""

from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.ports import KeyVault


def require_openable(vault: KeyVault, key: StoredKey) -> None:
    """Raise ConfigurationError if the master key does not open this key."""
    match key.purpose:
        case KeyPurpose.SIGN:
            vault.open_signing(key)
        case KeyPurpose.REFRESH:
            vault.open_refresh(key)
        case KeyPurpose.ENCRYPT:
            vault.open_decrypting(key)
