"""Rebuilding the log from the state, and lost generations from the log, as one process does at its start.

Every function runs inside a transaction of the caller and does a bounded part of the work.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

from identity_service.domain.ids import Link
from identity_service.domain.log import GenerationRaised, SessionEnded, TokenDenied
from identity_service.storage.codec import decode_change, seconds
from identity_service.storage.sqlite import facts
from identity_service.storage.sqlite.transactions import Mutation
from identity_service.storage.whole_log import lost_generations

STATE: Final[tuple[tuple[str, Callable[..., TokenDenied | SessionEnded]], ...]] = (
    ("id, deny_until FROM denied", facts.denial_of),
    ("id, deny_until, end_until FROM ended", facts.end_of),
)
"""The columns of the state that hold revocations, and the function that makes a fact of their values."""
_CHUNK: Final = 1000
"""The largest number of facts that one transaction appends, so that other writers wait only briefly."""
_ABSENT: Final = (
    "id > ? AND deny_until > ? AND NOT EXISTS"
    " (SELECT 1 FROM log WHERE log.position = t.position AND log.link = t.link) ORDER BY id LIMIT ?"
)


def append_absent(
    mutation: Mutation, columns: str, fact_of: Callable[..., TokenDenied | SessionEnded], after: str
) -> Sequence[str]:
    """Append up to 1,000 facts of one entry of STATE that the log lacks, in the order of their ids.

    Facts that ended over a day ago are left out: they are over by any clock, and may have been trimmed.
    Returns the ids, which are greater than `after`; none = the log lacks no more of them.
    """
    rows = mutation.connection.execute(
        f"SELECT {columns} AS t WHERE {_ABSENT}",  # text from above
        (after, seconds(mutation.now - facts.A_DAY), _CHUNK),
    ).fetchall()
    for row in rows:
        facts.restore(mutation, fact_of(*row))
    return [id_ for id_, *_ in rows]


def lost_in_state(connection: sqlite3.Connection) -> list[GenerationRaised]:
    """Return the raises that are in the log but missing from the state."""
    rows = connection.execute('SELECT link, change FROM log WHERE change LIKE \'{"k":"gen",%\'')
    raises = ((decode_change(change), Link(link)) for link, change in rows)
    return lost_generations(raises, facts.all_generations(connection))
