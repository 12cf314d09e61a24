"""The messages of Watch stay below the 4 MiB that a gRPC client accepts if it sets no limit of its own."""

from datetime import UTC, datetime, timedelta

import pytest

from identity_service.domain.ids import Epoch, Link, PrincipalId, SessionId, TokenId
from identity_service.domain.log import Change, GenerationRaised, Revision, SessionEnded, TokenDenied
from identity_service.grpc_api.trust_messages import WatchRenderer
from identity_service.replication import log_reader
from identity_service.services import watch, watcher

ACCEPTED = 4 * 2**20
LONGEST = "x" * 128
"""The longest id of a token, session or principal."""
LATER = datetime(2026, 1, 1, 12, 30, 1, 123456, tzinfo=UTC)
LINK = Link("x" * 11)


@pytest.mark.parametrize(
    "change",
    [
        TokenDenied(token_id=TokenId(LONGEST), deny_until=LATER),
        SessionEnded(session_id=SessionId(LONGEST), deny_until=LATER, end_until=LATER),
        GenerationRaised(principal=PrincipalId(LONGEST), number=2**40, origin=LINK),
    ],
    ids=["a token", "a session", "a principal"],
)
def test_the_longest_message_is_one_that_a_client_accepts(change: Change) -> None:
    facts = max(watch._CHUNK, log_reader._PAGE)
    place = Revision(epoch=Epoch("0123456789abcdef"), position=2**40, link=LINK)
    message = WatchRenderer(timedelta(minutes=5)).changes([(change, LINK)] * facts, place)

    # a message that was almost large enough to be sent alone, and one more
    assert watcher._MESSAGE + len(message) < ACCEPTED
