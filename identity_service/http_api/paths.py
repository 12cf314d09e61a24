"""The paths of the HTTP API, and the URLs that the metadata names them by."""

from typing import Final

TOKEN: Final = "/oauth2/token"  # noqa: S105  # a path
INTROSPECT: Final = "/oauth2/introspect"
REVOKE: Final = "/oauth2/revoke"
KEYS: Final = "/.well-known/jwks.json"


def url_of(issuer: str, path: str) -> str:
    """Return the URL of a path below the issuer, whose final slash, if it has one, is not repeated."""
    return issuer.removesuffix("/") + path
