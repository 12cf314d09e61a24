"""Follows a stream indefinitely: if it ends or breaks off, it is reopened with the backoff of the SDK."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from identity_client import IdentityError, ResourceExhaustedError, UnavailableError
from identity_client.backoff import Backoff
from identity_service.cli.output import say

T = TypeVar("T")


def follow(
    open_stream: Callable[[str], Iterator[T]], place: str, place_of: Callable[[T], str]
) -> Iterator[T]:
    """Yield the items of a stream, which is reopened after its last item whenever it ends or breaks off.

    Args:
        open_stream: opens the stream after a place. Opening and reading may raise IdentityError.
        place: the place to start after.
        place_of: returns the place of an item; "" = the item has none.

    Raises:
        IdentityError: the stream failed before its first item, or with an error that retrying cannot solve.
    """
    connected, backoff = False, Backoff()
    while True:
        failure: IdentityError | None = None
        try:
            for item in open_stream(place):
                connected = True
                backoff.reset()
                place = place_of(item) or place
                yield item
        except IdentityError as error:
            cut_off = error.code.name in ("CANCELLED", "UNKNOWN")
            if not connected or not (cut_off or isinstance(error, UnavailableError | ResourceExhaustedError)):
                raise
            failure = error
            say(f"identity: {error}; trying again")
        time.sleep(backoff.next_pause(failure))
