"""Rebuilding the log from the state, and lost generations from the log, as one process does at its start.

Every function runs inside a transaction of the caller and does a bounded part of the work.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

from identity_service.domain.ids import Link, SessionId, TokenId
from identity_service.domain.log import GenerationRaised
from identity_service.storage.codec import decode_change, moment, seconds
from identity_service.storage.sqlite import facts
from identity_service.storage.sqlite.transactions import Mutation
from identity_service.storage.whole_log import lost_generations

CHUNK: Final = 1000
"""The largest number of facts that one transaction appends, so that other writers wait only briefly."""
_ABSENT: Final = (
    "id > ? AND deny_until > ? AND NOT EXISTS"
    " (SELECT 1 FROM log WHERE log.position = t.position AND log.link = t.link) ORDER BY id LIMIT ?"
)


def append_denials(mutation: Mutation, after: str) -> Sequence[str]:
    """Append up to 1,000 denials that the log lacks, with ids greater than `after`; returns their ids.

    Denials that ended over a day ago are left out: they are over by any clock, and may have been trimmed.
    """
    rows = mutation.connection.execute(
        f"SELECT id, deny_until FROM denied AS t WHERE {_ABSENT}",  # noqa: S608  # text from above
        (after, seconds(mutation.now - facts.A_DAY), CHUNK),
    ).fetchall()
    for id_, until in rows:
        facts.deny_token(mutation, TokenId(id_), moment(until))
    return [id_ for id_, *_ in rows]


def append_ends(mutation: Mutation, after: str) -> Sequence[str]:
    """Append up to 1,000 ended sessions that the log lacks, as `append_denials` does."""
    rows = mutation.connection.execute(
        f"SELECT id, deny_until, end_until FROM ended AS t WHERE {_ABSENT}",  # noqa: S608  # text from above
        (after, seconds(mutation.now - facts.A_DAY), CHUNK),
    ).fetchall()
    for id_, until, end in rows:
        facts.end_session(mutation, SessionId(id_), moment(until), moment(end))
    return [id_ for id_, *_ in rows]


def lost_in_state(connection: sqlite3.Connection) -> list[GenerationRaised]:
    """Return the raises that are in the log but missing from the state."""
    rows = connection.execute('SELECT link, change FROM log WHERE change LIKE \'{"k":"gen",%\'')
    raises = ((decode_change(change), Link(link)) for link, change in rows)
    return lost_generations(raises, facts.all_generations(connection))
