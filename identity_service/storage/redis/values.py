"""What goes into scripts and comes out of them, as values of the domain. Knows no key and no connection.

Times are Unix seconds as decimal text both ways: Lua would round a number when it prints it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from identity_service.domain.ids import Epoch, Link, PrincipalId, SessionId, TokenId
from identity_service.domain.log import (
    Generation,
    GenerationRaised,
    Head,
    LogEntry,
    SessionEnded,
    TokenDenied,
)
from identity_service.storage.codec import decode_change, encode_change, moment, seconds


def time_text(time: datetime) -> str:
    return repr(seconds(time))


def time_of(text: str) -> datetime:
    return moment(float(text))


# A script completes the JSON of a change whose last members only it knows.


def denial_prefix(token_id: TokenId, until: datetime) -> str:
    """Up to `until`, the last member."""
    return _up_to('"until":', encode_change(TokenDenied(token_id=token_id, deny_until=until)))


def end_prefix(session_id: SessionId, until: datetime) -> str:
    """Up to `until`, which `end` follows."""
    change = SessionEnded(session_id=session_id, deny_until=until, end_until=until)
    return _up_to('"until":', encode_change(change))


def raise_prefix(principal: str) -> str:
    """Up to `number`, the last member."""
    change = GenerationRaised(principal=PrincipalId(principal), number=0)
    return _up_to('"number":', encode_change(change))


def _up_to(member: str, text: str) -> str:
    before, found, _ = text.rpartition(member)
    return before + found


def head_of(epoch: str, position: str, link: str, now: str) -> Head:
    return Head(epoch=Epoch(epoch), position=int(position), link=Link(link), time=time_of(now))


def entry_of(id_: str, flat: Sequence[str]) -> LogEntry:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    return LogEntry(
        position=int(id_.partition("-")[0]),
        link=Link(fields["link"]),
        previous_link=Link(fields["prev"]),
        time=time_of(fields["time"]),
        change=decode_change(fields["change"]),
    )


def generations_of(found: Mapping[str, str | None]) -> dict[PrincipalId, Generation]:
    """Without the ones that were never raised."""
    return {PrincipalId(p): Generation.parse(text) for p, text in found.items() if text}
