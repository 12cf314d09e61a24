"""A fake of the port PublicKeyChecker."""

from collections.abc import Sequence


class FakePublicKeys:
    """A checker of keys: the id of a key is its text, and a text that contains "bad" is not a key."""

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
