"""A program with many watchers, each on its own connection, which a test controls through pipes.

It is started as `python -m tests.faults.watcher_process TARGET ISSUER LIGHT REAL`, and prints "ready" once
all watchers have the snapshot. It then reads commands, one per line, and answers each with one line of JSON:

- `control TOKEN ID`: the number of watchers that are fresh and accept this token;
- `revoked TOKEN ID`: for each watcher, when it was fresh and refused the token, in seconds of the monotonic
  clock, which all processes of a machine share; null if that took longer than two minutes.

REAL watchers are `LocalVerifier` instances. A thousand of these need two thousand threads, and more than two
cores merely to receive their heartbeats; so most watchers are LIGHT: coroutines that keep a set of token ids,
with the channel arguments, the backoff and the silence timeout of `LocalVerifier`.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Any, Final

import grpc

from identity_client import ClientOptions, LocalVerifier, NotFreshError, Rejected, Verified
from identity_client.backoff import Backoff
from identity_client.errors import to_error
from identityapi.v1 import trust_service_pb2 as pb
from identityapi.v1 import trust_service_pb2_grpc as rpc

_POLL: Final = 0.02
_PATIENCE: Final = 120.0
MAX_STALENESS: Final = 5.0
_MAX_SILENCE: Final = MAX_STALENESS / 2


class LightWatcher:
    """A coroutine-based watcher that follows Watch as a LocalVerifier does, but checks no signatures."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._revision = ""
        self._complete = False
        self._denied: set[str] = set()
        self._fresh_until = float("-inf")

    def is_fresh(self) -> bool:
        return time.monotonic() < self._fresh_until

    def knows(self, token_id: str) -> bool:
        """Return whether this watcher is fresh and refuses the token."""
        return self.is_fresh() and token_id in self._denied

    def accepts(self, token_id: str) -> bool:
        return self.is_fresh() and token_id not in self._denied

    async def follow(self) -> None:
        """Follow the service until the task is cancelled, with a new connection after each silence."""
        backoff, max_silence = Backoff(), _MAX_SILENCE
        while True:  # a connection that fell silent is not used again
            async with grpc.aio.insecure_channel(self._target, options=_arguments()) as channel:
                stub: Any = rpc.TrustServiceStub(channel)
                silent = False
                while not silent:
                    failure = await self._watch(stub, backoff, max_silence)
                    silent = isinstance(failure, TimeoutError)
                    max_silence = _MAX_SILENCE * (2 if silent else 1)
                    await asyncio.sleep(backoff.next_pause(failure))

    async def _watch(self, stub: Any, backoff: Backoff, max_silence: float) -> Exception | None:
        """Follow one stream until it ends, and return the error that ended it, if any."""
        now = asyncio.get_running_loop().time
        stream = stub.Watch(pb.WatchRequest(resume_after=self._revision))
        try:
            async with asyncio.timeout(2 * max_silence) as limit:
                async for message in stream:
                    limit.reschedule(now() + max_silence)
                    self._apply(message)
                    if message.HasField("time"):
                        backoff.reset()
        except grpc.RpcError as error:
            return to_error(error)
        except TimeoutError as error:
            return error
        finally:
            stream.cancel()
        return None

    def _apply(self, message: pb.WatchResponse) -> None:
        self._denied |= {revocation.denied_token.token_id for revocation in message.revocations}
        self._complete = bool(message.revision) or (self._complete and not message.restarted)
        self._revision = message.revision or self._revision
        if message.HasField("time") and self._complete:
            left = MAX_STALENESS - message.staleness.ToTimedelta().total_seconds()
            self._fresh_until = time.monotonic() + left


def _arguments() -> list[tuple[str, Any]]:
    """Return the channel arguments of TrustClient, with which each channel has a connection of its own."""
    return [*ClientOptions().channel_arguments(), ("grpc.use_local_subchannel_pool", 1)]


async def main(target: str, issuer: str, light: int, real: int) -> None:
    with ExitStack() as stack:
        watchers = [LightWatcher(target) for _ in range(light)]
        following = [asyncio.create_task(watcher.follow()) for watcher in watchers]
        verifiers = [stack.enter_context(LocalVerifier(target, issuer=issuer)) for _ in range(real)]
        for verifier in verifiers:
            await asyncio.to_thread(verifier.wait_ready, timedelta(seconds=_PATIENCE))
        await _all_at([watcher.is_fresh for watcher in watchers])
        _say("ready")
        while words := (await asyncio.to_thread(sys.stdin.readline)).split():
            question, token, token_id = words
            if question == "control":
                accept = [watcher.accepts(token_id) for watcher in watchers]
                _say(sum(accept) + sum(_outcome(verifier, token) is Verified for verifier in verifiers))
            else:
                refuse = [partial(watcher.knows, token_id) for watcher in watchers]
                _say(await _all_at([*refuse, *(partial(_refuses, each, token) for each in verifiers)]))
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)


async def _all_at(conditions: Sequence[Callable[[], bool]]) -> list[float | None]:
    """Wait up to 120 s until each condition holds; return when each first held, or None."""
    moments: list[float | None] = [None] * len(conditions)
    waiting = set(range(len(conditions)))
    deadline = time.monotonic() + _PATIENCE
    while waiting and time.monotonic() < deadline:
        for number in [number for number in waiting if conditions[number]()]:
            moments[number] = time.monotonic()
            waiting.discard(number)
        await asyncio.sleep(_POLL)
    return moments


def _refuses(verifier: LocalVerifier, token: str) -> bool:
    return _outcome(verifier, token) is Rejected


def _outcome(verifier: LocalVerifier, token: str) -> type | None:
    """Return the class of the verifier's answer, or None if the verifier is not fresh."""
    try:
        return type(verifier.verify(token, any_audience=True))
    except NotFreshError:
        return None


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
