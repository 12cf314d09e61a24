"""The ids by which a call is found in the log: its own, and that of the trace that it belongs to.

Its client may name both in metadata or headers: `x-request-id`, and `traceparent` with `tracestate` (W3C
Trace Context, level 1). They are texts from outside: they are parsed strictly, and what is malformed or too
long counts as absent.
"""

import re
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

REQUEST_ID: Final = "x-request-id"
"""The header or metadata key of the id of a request, in requests and in answers."""
_USABLE: Final = re.compile(r"[\x21-\x7e]{1,128}")
PARENT: Final = "traceparent"
STATE: Final = "tracestate"
_PARENT: Final = re.compile(
    r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x21-\x7e]{0,200})?"
)
"""Version, trace id, span id and flags. Only a version that does not exist yet may have more fields."""
_NO_VERSION: Final = "ff"
_FIRST_VERSION: Final = "00"
_SAMPLED: Final = 1
_MAX_STATE_CHARS: Final = 512
"""The longest `tracestate` that is kept: the length that the specification asks to keep at least."""
_MAX_MEMBERS: Final = 32
_MEMBER: Final = re.compile(
    r"([a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])"
)
_BLANKS: Final = " \t"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContext:
    """A span of the client, within which it has made a call."""

    trace_id: str
    """32 hexadecimal digits in lower case, not all 0."""
    span_id: str
    """16 hexadecimal digits in lower case, not all 0."""
    is_sampled: bool
    """True if the client says that it records the trace."""
    state: tuple[tuple[str, str], ...] = ()
    """The values that tracing systems have attached to the trace, by their keys."""


def request_id(sent: Iterable[str]) -> str:
    """Return the first of the client's ids that is 1 to 128 visible ASCII characters, else a new id."""
    return next(filter(_USABLE.fullmatch, sent), None) or secrets.token_hex(8)


def read_context(metadata: Collection[tuple[str, str | bytes]]) -> TraceContext | None:
    """Return the context that these metadata or headers hold; None if there is no valid one.

    An invalid `tracestate` counts as absent; the `traceparent` stays valid.
    """
    parent = _read_parent(metadata)
    if parent is None:
        return None
    trace_id, span_id, flags = parent
    states = [value for name, value in metadata if name == STATE and isinstance(value, str)]
    return TraceContext(
        trace_id=trace_id,
        span_id=span_id,
        is_sampled=bool(int(flags, 16) & _SAMPLED),
        state=_parse_state(",".join(states)),
    )


def trace_fields(metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """Return the field `trace_id` for the log lines of a call; empty if its client sent no valid one."""
    parent = _read_parent(metadata)
    return {} if parent is None else {"trace_id": parent[0]}


def _read_parent(metadata: Iterable[tuple[str, str | bytes]]) -> tuple[str, str, str] | None:
    """Return trace id, span id and flags of the one `traceparent`; None if it is missing or malformed."""
    parents = [value for name, value in metadata if name == PARENT]
    if len(parents) != 1 or not isinstance(parents[0], str):
        return None
    found = _PARENT.fullmatch(parents[0])
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == _NO_VERSION or (version == _FIRST_VERSION and more is not None):
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return trace_id, span_id, flags


def _parse_state(text: str) -> tuple[tuple[str, str], ...]:
    """Return the members of a `tracestate`; empty if it is malformed or too long."""
    if len(text) > _MAX_STATE_CHARS:
        return ()
    members = [member for part in text.split(",") if (member := part.strip(_BLANKS))]
    state = {match[1]: match[2] for member in members if (match := _MEMBER.fullmatch(member))}
    return tuple(state.items()) if len(state) == len(members) <= _MAX_MEMBERS else ()
