"""Strict parsing of application/x-www-form-urlencoded: one meaning of each body, or an error."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from identity_service.http_api.messages import HttpRequest
from identity_service.http_api.oauth.errors import OAuthError, invalid_request

MAX_FORM_BYTES: Final = 64 * 1024
"""The longest body: three tokens of 8 KiB, and a request's audiences and scopes, even if they are encoded."""
_MAX_PARAMETERS: Final = 256
"""The largest number of parameters.

A body of 64 KiB may have 32,000, and to decode them took 70 ms of CPU, for a client without a credential.
"""
_REPEATABLE: Final = frozenset({"audience", "resource"})
"""The parameters that may occur more than once (RFC 8693 section 2.1, RFC 8707 section 2)."""
_ENCODED: Final = re.compile(rb"(?:[\x20-\x24\x26-\x7e]|%[0-9A-Fa-f]{2})*")
_MEDIA_TYPE: Final = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The parameters of a request. One without a value counts as absent (RFC 6749 section 3.2)."""

    values: Mapping[str, tuple[str, ...]] = field(repr=False)
    """A map from each name to its values. No value is empty; some are credentials."""

    def get(self, name: str, limit: int | None = None) -> str | None:
        """Return the value of a parameter, or None if it is absent.

        Raises OAuthError if it has more than `limit` characters; None = no limit.
        """
        value = next(iter(self.values.get(name, ())), None)
        if value is not None and limit is not None and len(value) > limit:
            raise invalid_request(f"the parameter {name} must have at most {limit} characters")
        return value

    def require(self, name: str, limit: int | None = None) -> str:
        """Return the value of a parameter; raise OAuthError if it is absent or longer than `limit`."""
        value = self.get(name, limit)
        if value is None:
            raise invalid_request(f"the parameter {name} is missing")
        return value

    def all(self, name: str) -> tuple[str, ...]:
        """Return all values of a parameter that may be repeated."""
        return self.values.get(name, ())


def read_form(request: HttpRequest) -> Form:
    """Return the parameters of a request. Raises OAuthError unless it sends them as a form, by POST."""
    if request.method != "POST":
        raise OAuthError("invalid_request", "send a POST", status=405, headers=(("Allow", "POST"),))
    if request.query:
        # A URL is logged on its way, and a credential must not be (RFC 6749 section 2.3.1).
        raise invalid_request("send the parameters in the body, and none in the URL")
    check_media_type(request.headers.get("content-type", ()))
    return parse_form(request.body)


def parse_form(body: bytes) -> Form:
    """Parse a body. Raises OAuthError if it is malformed, or repeats a parameter that must occur once."""
    if len(body) > MAX_FORM_BYTES:
        raise invalid_request(f"the body must have at most {MAX_FORM_BYTES} bytes")
    if body.count(b"&") >= _MAX_PARAMETERS:
        raise invalid_request(f"the body must have at most {_MAX_PARAMETERS} parameters")
    found: dict[str, list[str]] = {}
    try:
        for pair in body.split(b"&"):
            name, _, value = pair.partition(b"=")
            if pair:
                found.setdefault(decode(name), []).append(decode(value))
    except ValueError:
        raise invalid_request(f"the body must be {_MEDIA_TYPE}: percent-encoded UTF-8") from None
    if any(len(values) > 1 and name not in _REPEATABLE for name, values in found.items()):
        raise invalid_request("a parameter other than audience and resource occurs more than once")
    return Form(values={name: tuple(filter(None, values)) for name, values in found.items()})


def decode(text: bytes) -> str:
    """Decode one name or value. Raises ValueError if it is not visible ASCII that encodes UTF-8."""
    if not _ENCODED.fullmatch(text):
        raise ValueError("not percent-encoded")
    try:
        return unquote_to_bytes(text.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None


def check_media_type(values: tuple[str, ...]) -> None:
    """Check the values of the header Content-Type. Raises OAuthError unless they name a form in UTF-8."""
    media_type, *parameters = (part.strip().lower() for part in ";".join(values).split(";"))
    charsets = {name.partition("=")[2].strip('"') for name in parameters if name.startswith("charset=")}
    if len(values) != 1 or media_type != _MEDIA_TYPE or not charsets <= {"utf-8"}:
        raise invalid_request(f"send the parameters in the body, as {_MEDIA_TYPE} in UTF-8")
