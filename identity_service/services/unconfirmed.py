"""Owing: what was revoked and may not have arrived is denied here at once, and sent until it is there."""

from collections.abc import Iterator
from contextlib import contextmanager

from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.log import Fact
from identity_service.domain.ports import ReplicaView


@contextmanager
def resent_until_confirmed(replica: ReplicaView, fact: Fact) -> Iterator[None]:
    """Around a write of `fact`: where nobody can say whether the store took it, this process owes it."""
    try:
        yield
    except StoreUnavailableError:
        replica.add_unconfirmed(fact)
        raise
