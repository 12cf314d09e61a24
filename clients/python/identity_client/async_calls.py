"""The open streaming calls of a server in an event loop; the loop ends them, without a thread."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from identity_client.caller import Caller
from identity_client.freshness import wall
from identity_client.open_calls import LONGEST_WAIT, Note, OpenCall, OpenCalls, ignore
from identity_client.refusal import RefusedError
from identity_client.verifier_core import VerifierCore


class AsyncOpenCall(OpenCall):
    """One streaming call, which the current task handles."""

    __slots__ = ("loop", "sending", "task")

    def __init__(self, caller: Caller) -> None:
        """Create a call of the current task; if the token ends the call, the task is cancelled."""
        task = asyncio.current_task()
        if task is None:  # pragma: no cover  # coroutines of servers run in tasks
            raise RuntimeError("an open call needs a task")
        super().__init__(caller, task.cancel)
        self.task = task
        self.loop = asyncio.get_running_loop()
        self.sending = 0
        """The number of messages that are being sent now."""

    def has_ended(self) -> bool:
        """Return whether the token has ended the call, in the handler of its CancelledError.

        It is False if the task was cancelled for another reason as well, which goes first.
        """
        return self.refusal is not None and self.task.uncancel() == 0

    def end(self, refusal: RefusedError) -> None:
        """End the call, in its event loop.

        A message that is being sent is not interrupted: gRPC could send no status afterwards, because it
        would send the initial metadata twice.
        """
        if self.done:
            return
        self.refuse(refusal)
        if not self.sending:
            self.cancel()

    async def send(self, sending: Callable[..., Awaitable[None]], *messages: Any) -> None:
        """Send something. Raises RefusedError if the token has ended the call, also meanwhile."""
        self.check()
        self.sending += 1
        try:
            await sending(*messages)
        finally:
            self.sending -= 1
            if self.refusal is not None and not self.sending and asyncio.current_task() is not self.task:
                self.cancel()
        self.check()


class AsyncCalls(OpenCalls):
    """A set of open calls whose tasks are cancelled when their token is refused."""

    def __init__(self, verifier: VerifierCore, note: Note = ignore) -> None:
        """Create an empty set; it listens to the verifier from the first call on. See `OpenCalls`."""
        super().__init__(verifier, note)
        self._listens = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def _added(self, valid_until: float) -> None:
        if not self._listens:
            self._listens = True
            self._verifier.on_revoked(self.apply)
            self._verifier.on_keys_changed(self.check_all)
        self._look_after(min(max(0.0, valid_until - wall()), LONGEST_WAIT))

    def _end(self, call: OpenCall, refusal: RefusedError) -> None:
        if isinstance(call, AsyncOpenCall):
            with suppress(RuntimeError):  # the loop is closed, and so is the call
                call.loop.call_soon_threadsafe(call.end, refusal)

    def _look_after(self, seconds: float) -> None:
        """Have the loop look at the expiry times not later than after this time."""
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds
        if self._timer is not None and self._loop is loop:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._loop = loop
        self._timer = loop.call_at(at, self._look)

    def _look(self) -> None:
        self._timer = None
        after = self.expire()
        if after is not None:
            self._look_after(after)
