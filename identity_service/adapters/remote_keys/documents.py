"""A document that was fetched from an issuer, and the error if that is not possible."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta


class FetchError(Exception):
    """A document cannot be fetched; the text tells an operator why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDocument:
    """The document with the public keys of an issuer, as it was fetched."""

    body: bytes
    max_age: timedelta | None = None
    """The time for which it may be cached (Cache-Control, RFC 9111); None = the response does not say."""


Fetch = Callable[[str], KeyDocument]
"""A function that returns the document at a URL. Raises FetchError."""
