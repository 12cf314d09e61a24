"""Requests and responses of the HTTP API as values, so that the code behind them knows no framework."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from identity_service.domain.origin import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request that has arrived completely."""

    method: str
    """The method, in upper case."""
    path: str
    """The path of the URL, percent-decoded, without the query."""
    query: bytes = field(repr=False)
    """The query of the URL as it was sent, without the question mark. It may hold credentials."""
    headers: Mapping[str, tuple[str, ...]] = field(repr=False)
    """A map from each name, in lower case, to all values in the order of the request. They may hold
    credentials."""
    body: bytes = field(repr=False)
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """A response with its complete body; `Exchange` adds Content-Length and headers that all have.

    Raises ValueError if a header has anything but visible ASCII characters and blanks: it could split the
    response.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        for name, value in self.headers:
            if not (value.isascii() and value.isprintable()):
                raise ValueError(f"the header {name} of a response is not printable ASCII")


Endpoint = Callable[[HttpRequest], HttpResponse]
"""A function that answers a request. It is synchronous, and may wait for the store or for a password hash, so
it runs in the work pool."""
