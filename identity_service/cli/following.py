"""A stream that is followed for ever: where it breaks off, it is opened again, with the pauses of the SDK."""

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
    """What each stream says, one after the other. A failure before anything was said is final.

    Args:
        open_stream: opens it behind a place. Raises IdentityError, as reading it does.
        place: where to begin.
        place_of: where something stands that was said; "" = it does not say.
    """
    connected, backoff = False, Backoff()
    while True:
        failure: IdentityError | None = None
        try:
            for said in open_stream(place):
                connected = True
                backoff.reset()
                place = place_of(said) or place
                yield said
        except IdentityError as error:
            cut_off = error.code.name in ("CANCELLED", "UNKNOWN")
            if not connected or not (cut_off or isinstance(error, UnavailableError | ResourceExhaustedError)):
                raise
            failure = error
            say(f"identity: {error}; trying again")
        time.sleep(backoff.next_pause(failure))
