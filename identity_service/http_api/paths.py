"""The paths of the HTTP API, and the URLs that the metadata names them by."""

from typing import Final
from urllib.parse import urlsplit

TOKEN: Final = "/oauth2/token"  # noqa: S105  # a path
INTROSPECT: Final = "/oauth2/introspect"
REVOKE: Final = "/oauth2/revoke"
KEYS: Final = "/.well-known/jwks.json"
AUTHORIZATION_SERVER: Final = "/.well-known/oauth-authorization-server"
OPENID_CONFIGURATION: Final = "/.well-known/openid-configuration"
LIVE: Final = "/livez"
READY: Final = "/readyz"
OPENAPI: Final = "/openapi.json"
METRICS: Final = "/metrics"


def url_of(issuer: str, path: str) -> str:
    """Return the URL of a path below the issuer, whose final slash, if it has one, is not repeated."""
    return issuer.removesuffix("/") + path


def prefix_of(issuer: str) -> str:
    """Return the path of the issuer's URL without a final slash; empty if it has none."""
    url = urlsplit(issuer)
    return url.path.rstrip("/") if url.netloc else ""
