"""Unconfirmed revocations: enforced locally at once, resent until the store confirms them."""

from collections.abc import Iterator
from contextlib import contextmanager

from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.log import Fact
from identity_service.domain.ports import ReplicaView


@contextmanager
def resent_until_confirmed(replica: ReplicaView, fact: Fact) -> Iterator[None]:
    """Guard a write of `fact`: if the store does not confirm it, the replica enforces and resends it.

    The StoreUnavailableError of the write is raised again.
    """
    try:
        yield
    except StoreUnavailableError:
        replica.add_unconfirmed(fact)
        raise
