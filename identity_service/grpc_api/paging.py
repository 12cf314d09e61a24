"""Pages of lists: `page_size` and `page_token`, whatever the list contains.

A page token names the place where the previous page ended. It is not secret and grants nothing beyond the
list itself. Its digest only detects a text that is not a page token of the same method with the same other
fields.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from identity_service.domain.errors import InvalidRequestError
from identity_service.domain.ids import base64url

DEFAULT_PAGE: Final = 100
LONGEST_PAGE: Final = 1000
_DIGEST_BYTES: Final = 12
_MAX_TOKEN_CHARS: Final = 2048
_BAD_TOKEN: Final = (
    "must be the next_page_token of the previous answer, and the other fields must be the same"  # noqa: S105
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The part of a list that a request asks for."""

    of: str
    """The method, and the other fields on which the list depends."""
    limit: int
    after: str = ""
    """The id with which the previous page ended; empty = this is the first page."""

    @classmethod
    def asked(cls, of: str, page_size: int, page_token: str) -> "Page":
        """Return the page that a request asks for. Raises InvalidRequestError."""
        if not 0 <= page_size <= LONGEST_PAGE:
            raise InvalidRequestError.of("page_size", f"must be from 0 to {LONGEST_PAGE}")
        after = _parse_token(of, page_token) if page_token else ""
        return cls(of=of, limit=page_size or DEFAULT_PAGE, after=after)

    def token_after(self, id_: str) -> str:
        """Return the token of the page that begins after this id."""
        return base64url(_digest(self.of, id_) + id_.encode())

    def cut(self, found: Sequence[T], id_of: Callable[[T], str]) -> tuple[Sequence[T], str]:
        """Return the entries of this page, and the token of the next page (empty if there is none).

        `found` holds up to `limit` + 1 entries; the last one only shows that another page follows.
        """
        shown = found[: self.limit]
        return shown, self.token_after(id_of(shown[-1])) if len(found) > self.limit else ""


def _parse_token(of: str, token: str) -> str:
    try:
        data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        digest, id_ = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:].decode()
    except (binascii.Error, ValueError):  # a UnicodeError is a ValueError
        raise InvalidRequestError.of("page_token", _BAD_TOKEN) from None
    # The decoder accepts several spellings; only the canonical one is a token.
    if not id_ or len(token) > _MAX_TOKEN_CHARS or digest != _digest(of, id_) or base64url(data) != token:
        raise InvalidRequestError.of("page_token", _BAD_TOKEN)
    return id_


def _digest(of: str, id_: str) -> bytes:
    return hashlib.sha256(f"{len(of)}:{of}{id_}".encode()).digest()[:_DIGEST_BYTES]
