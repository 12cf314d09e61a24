"""A fake of the port `PasswordHasher`."""

from identity_service.domain.secret import Secret


class PlainHasher:
    """Implements the port `PasswordHasher` without hashing, so that it is fast."""

    def hash(self, password: Secret) -> str:
        return f"plain {password.reveal()}"

    def verify(self, phc: str | None, password: Secret) -> bool:
        return phc == f"plain {password.reveal()}"

    def is_outdated(self, phc: str) -> bool:
        return False
