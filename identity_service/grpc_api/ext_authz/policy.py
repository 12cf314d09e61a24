"""The requirement on the token of a request, as the configuration of the gateway's route names it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from identity_service.domain.errors import FieldViolation, InvalidRequestError
from identity_service.domain.grants import MAX_SCOPES, is_audience, is_known_scope

AUDIENCE: Final = "audience"
SCOPES: Final = "scopes"
PUBLIC: Final = "public"
_KEYS: Final = (AUDIENCE, SCOPES, PUBLIC)
_BOOLEANS: Final = {"true": True, "false": False}
_FIELD: Final = "attributes.context_extensions"
_MAX_SHOWN, _MAX_SHOWN_CHARS = 5, 64
"""The number of unknown keys that an error names, and the characters of each: the headers of an answer are
bounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """The token that a request must present: its audience and scopes, or none if the method is public."""

    audience: str = ""
    scopes: tuple[str, ...] = ()
    public: bool = False


def problems(audience: str, scopes: Sequence[str], *, public: bool) -> Iterator[tuple[str, str]]:
    """Return each value that is not acceptable: its name, and the rule that it breaks."""
    if public and (audience or scopes):
        yield PUBLIC, "must not be combined with an audience or scopes: a public method needs no token"
    if audience and not is_audience(audience):
        yield AUDIENCE, "must have 1 to 256 visible ASCII characters"
    if len(scopes) > MAX_SCOPES:
        yield SCOPES, f"must be at most {MAX_SCOPES}"
    elif not all(map(is_known_scope, scopes)):
        yield (
            SCOPES,
            "must be scopes as in RFC 6749 section 3.3, of at most 128 characters, or of this service",
        )


def from_extensions(extensions: Mapping[str, str]) -> Requirement | None:
    """Return the requirement that the `context_extensions` of a route name; None if there are none.

    Raises InvalidRequestError, also for an unknown key: `scope` in place of `scopes` must not mean that every
    token is good enough.
    """
    if not extensions:
        return None
    unknown = sorted(extensions.keys() - _KEYS)[:_MAX_SHOWN]
    found = [(key[:_MAX_SHOWN_CHARS], f"must be one of {', '.join(_KEYS)}") for key in unknown]
    audience, scopes = extensions.get(AUDIENCE, ""), tuple(extensions.get(SCOPES, "").split())
    public = _BOOLEANS.get(extensions.get(PUBLIC, "false"))
    if public is None:
        found.append((PUBLIC, "must be true or false"))
    elif not public and not audience:
        found.append((AUDIENCE, "must be set unless public is true"))
    found += problems(audience, scopes, public=bool(public))
    if found:
        raise InvalidRequestError(
            *(FieldViolation(field=f"{_FIELD}[{key}]", description=rule) for key, rule in found)
        )
    return Requirement(audience=audience, scopes=scopes, public=bool(public))
