"""A fake of the port `ResponseStream`."""

from collections.abc import Callable

from identity_service.grpc_api.errors import RpcStatus


class FakeStream:
    """Implements the port `ResponseStream`; the stream ends when the test says so."""

    address = ""

    def __init__(self, *, ended: bool = False) -> None:
        self._ended = ended
        self.callbacks: list[Callable[[], None]] = []

    def send(self, message: bytes, taken: Callable[[], None]) -> None:
        taken()

    def end(self, status: RpcStatus | None) -> None:
        self.finish()

    def cancel(self) -> None:
        self.finish()

    def is_active(self) -> bool:
        return not self._ended

    def on_end(self, callback: Callable[[], None]) -> bool:
        self.callbacks.append(callback)
        return not self._ended

    def finish(self) -> None:
        for callback in self.callbacks:
            callback()
        self.callbacks.clear()
