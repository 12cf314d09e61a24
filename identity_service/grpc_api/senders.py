"""Senders: a few threads that empty the queues of all open streams, and a watchdog over them.

`send` blocks until the transport takes a message. One stream may hold up one sender only for so long;
meanwhile spare senders serve the others. Knows nothing of what is sent.
"""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from queue import SimpleQueue
from typing import Final

import grpc
import structlog

from identity_service.domain.errors import ShuttingDownError, WatcherTooSlowError
from identity_service.grpc_api.errors import to_status
from identity_service.services.watch import Watcher

_SENDERS: Final = 4
_SENDERS_AT_MOST: Final = 256
_TURN: Final = 16
"""Messages that a stream may send before another one has its turn."""
_TICK: Final = 0.05
_HELD_UP: Final = 0.1
"""Seconds after which a sender counts as held up."""
_HELD_UP_AT_MOST: Final = 1.0
"""Seconds that one send may take while every sender there may be is taken and others wait."""

Send = Callable[[bytes | None], None]


class Stream:
    """One open stream and its watcher."""

    def __init__(self, watcher: Watcher, context: grpc.ServicerContext, send: Send, request_id: str) -> None:
        self.watcher = watcher
        self.context = context
        self.request_id = request_id
        self._send = send
        self._ended = threading.Lock()
        self.since: float | None = None
        """When the send in progress began."""

    def send(self, message: bytes) -> bool:
        """Returns whether the stream is still open."""
        self.since = time.monotonic()
        self._send(message)
        self.since = None
        return self.context.is_active()

    def end(self, error: Exception) -> None:
        """End the stream with the status of an error, once."""
        if not self._ended.acquire(blocking=False) or not self.context.is_active():
            return
        status = to_status(error, self.request_id)
        self.context.set_code(status.code)
        self.context.set_details(status.details)
        self.context.set_trailing_metadata(status.trailing_metadata)
        self._send(None)


class Senders:
    """Sends what watchers have waiting. Any thread may call any method."""

    def __init__(
        self,
        *,
        send_timeout: timedelta,
        heartbeat: timedelta,
        beat: Callable[[], None],
        leave: Callable[[Watcher], None],
    ) -> None:
        """
        Args:
            send_timeout: how long one message may take.
            heartbeat: between two calls of `beat`.
            beat: queues a heartbeat for every watcher.
            leave: tells the hub that a watcher is gone.
        """
        self._timeout = send_timeout.total_seconds()
        self._heartbeat = heartbeat.total_seconds()
        self._beat = beat
        self._leave = leave
        self._ready: SimpleQueue[Stream | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._streams: dict[Watcher, Stream] = {}
        self._busy: set[Stream] = set()
        self._threads = 0
        self._stop = threading.Event()
        self._log = structlog.get_logger()

    def start(self) -> None:
        for _ in range(_SENDERS):
            self._add_sender()
        threading.Thread(target=self._watch_over, name="identity-watchdog", daemon=True).start()

    def add(self, stream: Stream) -> None:
        """Send on this stream what its watcher has, until the stream ends."""
        with self._lock:
            self._streams[stream.watcher] = stream
        if not stream.context.add_callback(lambda: self._gone(stream)):
            self._gone(stream)
        if self._stop.is_set():  # it came too late for `stop` to see it
            stream.end(_stopping())
        self._ready.put(stream)

    def wake(self, watcher: Watcher) -> None:
        """This watcher has something to send."""
        stream = self._streams.get(watcher)
        if stream is not None:
            self._ready.put(stream)

    def stop(self) -> None:
        """End all streams, so that their clients go to another process."""
        self._stop.set()
        with self._lock:
            streams = list(self._streams.values())
        for stream in streams:
            stream.end(_stopping())
        for _ in range(self._threads):
            self._ready.put(None)

    def _gone(self, stream: Stream) -> None:
        with self._lock:
            self._streams.pop(stream.watcher, None)
        self._leave(stream.watcher)

    def _add_sender(self) -> None:
        with self._lock:
            self._threads += 1
        threading.Thread(target=self._work, name="identity-sender", daemon=True).start()

    def _work(self) -> None:
        while (stream := self._ready.get()) is not None:
            with self._lock:
                self._busy.add(stream)
            try:
                self._take_turn(stream)
            except Exception as error:  # noqa: BLE001  # one stream's bug must not cost the others a sender
                self._log.error("watch_bug", request_id=stream.request_id, error=type(error).__name__)
                stream.end(error)
            with self._lock:
                self._busy.discard(stream)
                if self._threads > _SENDERS and len(self._busy) < _SENDERS:
                    self._threads -= 1
                    return

    def _take_turn(self, stream: Stream) -> None:
        for _ in range(_TURN):
            if stream.watcher.overflowed:
                stream.end(WatcherTooSlowError("reads more slowly than changes come; reconnect and resume"))
                return
            message = stream.watcher.take()
            if message is None:
                return
            if not stream.send(message):
                self._gone(stream)
                return
        self._ready.put(stream)

    def _watch_over(self) -> None:
        next_beat = time.monotonic() + self._heartbeat
        while not self._stop.wait(_TICK):
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + self._heartbeat
                self._beat()
            with self._lock:
                begun = [(stream, stream.since) for stream in self._busy]
                waiting = not self._ready.empty()
                threads = self._threads
            crowded = waiting and len(begun) >= threads
            allowed = self._timeout
            if crowded and threads >= _SENDERS_AT_MOST:
                allowed = min(allowed, _HELD_UP_AT_MOST)
            held_up = 0
            for stream, since in begun:
                if since is not None and now - since > allowed:
                    stream.context.cancel()  # which ends the send; nothing more could be told to it
                elif since is not None and now - since > _HELD_UP:
                    held_up += 1
            if crowded:
                # As many as are held up: many may stop reading at once, and the others wait meanwhile.
                for _ in range(min(held_up, _SENDERS_AT_MOST - threads)):
                    self._add_sender()


def _stopping() -> ShuttingDownError:
    return ShuttingDownError("this process is stopping; reconnect")
