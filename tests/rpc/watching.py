"""A stream of Watch that a thread reads. The module asserts only that expected messages arrive."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, Queue
from typing import Any

import grpc

from identityapi.v1 import trust_service_pb2 as pb
from identityapi.v1 import trust_service_pb2_grpc as rpc
from tests.patience import PATIENCE
from tests.rpc.world import World


class Watching:
    """A client of Watch: a thread reads its stream."""

    def __init__(self, target: str, resume_after: str = "", metadata: Any = ()) -> None:
        self.channel = grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
        self.call = rpc.TrustServiceStub(self.channel).Watch(
            pb.WatchRequest(resume_after=resume_after), metadata=metadata
        )
        self.messages: Queue[pb.WatchResponse] = Queue()
        self.seen: list[pb.WatchResponse] = []
        self.known: set[str] = set()
        """The ids of the tokens, sessions and principals in all revocations that were received."""
        self.error: grpc.RpcError | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for message in self.call:
                self.messages.put(message)
        except grpc.RpcError as error:
            self.error = error

    def until(self, enough: Callable[["Watching"], bool]) -> None:
        """Take messages until the condition is true."""
        deadline = time.monotonic() + PATIENCE
        while not enough(self):
            # read before the queue: the last messages are in the queue by then
            ended = not self._thread.is_alive()
            try:
                self._see(self.messages.get(timeout=0.01))
            except Empty:
                if ended or time.monotonic() > deadline:
                    raise AssertionError(f"not seen; seen: {self.seen}") from None

    def ended(self) -> grpc.RpcError:
        self._thread.join(PATIENCE)
        assert self.error is not None
        return self.error

    def close(self) -> None:
        self.call.cancel()
        self.channel.close()
        self._thread.join(PATIENCE)

    def _see(self, message: pb.WatchResponse) -> None:
        self.seen.append(message)
        for revocation in message.revocations:
            kind = getattr(revocation, revocation.WhichOneof("kind") or "")
            self.known.add(getattr(kind, kind.DESCRIPTOR.fields[0].name))

    @property
    def revision(self) -> str:
        return next((m.revision for m in reversed(self.seen) if m.revision), "")

    @property
    def complete(self) -> bool:
        return bool(self.revision)


@contextmanager
def watching(world: World, **options: Any) -> Iterator[Watching]:
    watching = Watching(world.target, **options)
    try:
        yield watching
    finally:
        watching.close()


def knows(*ids: str) -> Callable[[Watching], bool]:
    return lambda watching: set(ids) <= watching.known and watching.complete
