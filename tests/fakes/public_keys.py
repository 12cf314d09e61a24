"""A fake of the port `PublicKeyChecker`."""

from collections.abc import Sequence


class FakePublicKeys:
    """Implements the port: a key's id is its text, and a text with "bad" in it is refused."""

    def check_key(self, jwk: str) -> str:
        return _checked(jwk)

    def check_encryption_key(self, jwk: str) -> None:
        _checked(jwk)

    def check_key_set(self, jwks: str, algorithms: Sequence[str]) -> None:
        _checked(jwks)


def _checked(text: str) -> str:
    if "bad" in text:
        raise ValueError("is no key")
    return text
