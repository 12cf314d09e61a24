"""The facts on Redis: denials, ended sessions and raised generations, and the uses of single-use keys.

The functions at the end make the arguments of scripts that append facts.
"""

import secrets
from dataclasses import replace
from datetime import datetime
from typing import Final

from identity_service.domain.audit import AuditEvent
from identity_service.domain.ids import Link, PrincipalId, SessionId, TokenId, new_link
from identity_service.domain.log import Appended, Fact, GenerationRaised, SessionEnded, TokenDenied
from identity_service.storage.codec import encode_change
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.client.connection import RedisConnection
from identity_service.storage.redis.keyspace import Writer, appended, time_of, time_text
from identity_service.storage.redis.sessions import RedisSessions

_REQUEST_SECONDS: Final = 24 * 3600
"""The number of seconds for which a raised generation is remembered under its request id."""
_CALL_SECONDS: Final = 60
"""The number of seconds for which it is remembered without a request id: longer than one call takes, its
retry included."""


class RedisFacts:
    """The facts of a store on Redis, implementing the port `FactStore`."""

    def __init__(self, writer: Writer, sessions: RedisSessions) -> None:
        self._writer = writer
        self._sessions = sessions

    def deny_token(
        self, token_id: TokenId, deny_until: datetime, *, audit: AuditEvent | None = None
    ) -> Appended:
        """Deny a token id until a time; an existing denial is never shortened."""
        denied = TokenDenied(token_id=token_id, deny_until=deny_until)
        words = [time_text(deny_until), prefix_of(denied), new_link()]
        epoch, (position, link, until) = self._writer.mutate(
            "deny_token", [keys.denial(token_id)], words, audit=audit
        )
        return appended(epoch, position, (replace(denied, deny_until=time_of(until)), link))

    def end_session(
        self,
        session_id: SessionId,
        *,
        deny_until: datetime,
        end_until: datetime,
        audit: AuditEvent | None = None,
    ) -> Appended:
        """End a session at least until its own end, and mark its record."""
        session_keys, own_end = self._sessions.mark_ended(session_id)
        times = (time_text(deny_until), time_text(max(end_until, own_end or end_until)))
        ended = SessionEnded(session_id=session_id, deny_until=deny_until, end_until=end_until)
        epoch, (position, link, deny, end) = self._writer.mutate(
            "end_session",
            [keys.ended(session_id), *session_keys],
            [*times, prefix_of(ended), new_link()],
            audit=audit,
        )
        held = replace(ended, deny_until=time_of(deny), end_until=time_of(end))
        return appended(epoch, position, (held, link))

    def raise_generation(
        self,
        principal: PrincipalId,
        *,
        above: int,
        request_id: str | None,
        link: Link | None = None,
        audit: AuditEvent | None = None,
    ) -> Appended:
        """Raise a generation, once for each request id within 24 hours."""
        # A request without an id gets one, so that a retry after a broken connection does not raise again.
        name = request_id or f"call/{secrets.token_urlsafe(16)}"
        remember = (_REQUEST_SECONDS, 2 * _REQUEST_SECONDS) if request_id else (_CALL_SECONDS, _CALL_SECONDS)
        raised = GenerationRaised(principal=principal, number=0)
        epoch, (position, held, number, there) = self._writer.mutate(
            "raise_generation",
            [keys.request(name)],
            [principal, above, prefix_of(raised), link or new_link(), *remember],
            audit=audit,
        )
        change = replace(raised, number=int(number)), Link(held)
        return appended(epoch, position, change, link=Link(there))


class RedisSingleUse:
    """The single-use keys of a store on Redis, implementing the port `SingleUse`."""

    def __init__(self, connection: RedisConnection, writer: Writer) -> None:
        self._connection = connection
        self._writer = writer

    def consume(self, key: str, until: datetime) -> bool:
        """Mark a key as used until a time; return whether this call is the first to use it."""
        # Not retried after a broken connection: the second call would find the mark of the first.
        found, words = [keys.used(key), keys.HEAD], [self._writer.now(), time_text(until)]
        return bool(self._connection.run("consume", found, words, repeatable=False, durable=True))


def prefix_of(fact: Fact) -> str:
    """Return the JSON of a fact up to its last values, which only a script knows; the script completes it.

    These values are `until` and `end`, or the number of a generation.
    """
    member = '"number":' if isinstance(fact, GenerationRaised) else '"until":'
    before, found, _ = encode_change(fact).rpartition(member)
    return before + found


def restore_words(fact: Fact) -> tuple[str, ...]:
    """Return a fact in the form that `repair_facts.lua` and `trim_log.lua` take."""
    match fact:
        case TokenDenied():
            return "deny", fact.token_id, time_text(fact.deny_until), "", prefix_of(fact), new_link()
        case SessionEnded():
            times = time_text(fact.deny_until), time_text(fact.end_until)
            return "end", fact.session_id, *times, prefix_of(fact), new_link()
        case GenerationRaised():
            origin = fact.origin or new_link()
            again, anew = prefix_of(replace(fact, origin=origin)), prefix_of(replace(fact, origin=None))
            return "gen", fact.principal, str(fact.number), origin, again, new_link(), anew
