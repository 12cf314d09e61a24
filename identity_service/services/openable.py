"""Whether the master key opens a key of a store: a backup that it does not open could never be restored."""

from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.ports import KeyVault


def require_openable(vault: KeyVault, key: StoredKey) -> None:
    """Raise ConfigurationError if the service could not use this key."""
    match key.purpose:
        case KeyPurpose.SIGN:
            vault.open_signing(key)
        case KeyPurpose.REFRESH:
            vault.open_refresh(key)
        case KeyPurpose.ENCRYPT:
            vault.open_decrypting(key)
