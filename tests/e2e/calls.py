"""Calls that continue while processes of a service are started and stopped. The module asserts nothing."""

import contextlib
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import grpc

from identity_client import ClientOptions, IdentityClient, IdentityError, Verified
from tests.e2e.process import Installation, Running
from tests.patience import PATIENCE, until

_PACE: Final = 0.01
"""Seconds between two calls of a thread. Without pauses, the calls would take all CPU time from the processes
that start meanwhile."""
_CALLS: Final = 10
"""The number of calls on one connection."""


def token_of(installation: Installation, service: Running) -> str:
    """Return an access token of the first administrator."""
    environment = installation.environment
    with service.client() as client:
        return client.issue_with_secret(
            environment["IDENTITY_CLIENT_ID"], environment["IDENTITY_CLIENT_SECRET"]
        ).access_token


@contextlib.contextmanager
def calling(target: str, token: str) -> Iterator[list[str]]:
    """Call Verify on many connections until the block ends; yield the list of errors and wrong answers."""
    stop, wrong, calls = threading.Event(), list[str](), [0]
    options = ClientOptions(timeout=timedelta(seconds=PATIENCE))  # a busy machine is not a failure
    arguments = [*options.channel_arguments(), ("grpc.use_local_subchannel_pool", 1)]

    def call() -> None:
        while not stop.is_set():
            with (
                grpc.insecure_channel(target, arguments) as channel,
                IdentityClient(channel=channel, options=options) as client,
            ):
                for _ in range(_CALLS):
                    stop.wait(_PACE)
                    try:
                        answer = client.verify(token, any_audience=True)
                    except IdentityError as error:
                        wrong.append(repr(error))
                    else:
                        calls[0] += 1
                        if not isinstance(answer, Verified):
                            wrong.append(repr(answer))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield wrong
        until(lambda: calls[0] > 100)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
