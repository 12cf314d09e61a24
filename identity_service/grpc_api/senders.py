"""Sends the messages of all open streams: one thread sends, and one checks timeouts and starts heartbeats.

A stream gets its next message when the transport has taken the previous one, so a client that does not read
holds no thread. This module does not know the contents of messages.
"""

import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from queue import SimpleQueue
from typing import Final, Protocol

import structlog

from identity_service.domain.errors import ShuttingDownError, WatcherTooSlowError
from identity_service.grpc_api.engine import ResponseStream
from identity_service.grpc_api.errors import RpcStatus, to_status
from identity_service.process.background import BackgroundThread, every
from identity_service.transport.limits import Limits

_TICK: Final = 0.05
"""Seconds between two checks of the thread for timeouts and heartbeats."""
_STOP_TIMEOUT: Final = 2.0
"""The number of seconds that the sending thread may take to end all streams; it waits for no client."""

_TOO_OLD: Final = "this stream is as old as max_connection_age allows; reconnect and resume"


class Source(Protocol):
    """The messages of one stream. Only one thread at a time takes from it."""

    @property
    def overflowed(self) -> bool:
        """Return whether more than `watch_queue` messages wait, since the client reads too slowly."""

    def take(self) -> bytes | None:
        """Return the next message, or None if none waits.

        After None, `Senders.wake` must be called when there is a message.
        """

    def last(self) -> bytes | None:
        """Return the message to send before the stream ends because the process stops; None = no message."""


@dataclass(slots=True, eq=False)
class _OpenStream:
    """One open stream and its source."""

    source: Source
    stream: ResponseStream
    request_id: str
    gone: Callable[[], None]
    end_by: float
    """The time at which the stream is so old that it ends."""
    since: float | None = None
    """The time at which the message was sent that the transport has not taken yet; None = no such message."""
    limited: bool = False
    """True if a limit has ended the stream."""


class Senders:
    """The open streams of one process and the threads that serve them. Any thread may call any method."""

    def __init__(
        self,
        *,
        limits: Limits,
        max_age: timedelta,
        heartbeat: timedelta,
        send_heartbeats: Callable[[], None],
    ) -> None:
        """Create senders without streams; `start` starts the threads.

        Args:
            limits: hold the time that a client has to read one message, and count the streams that they end.
            max_age: the age at which a stream ends, at the latest. Its caller was authenticated when it
                began, so the caller must prove itself again then.
            heartbeat: the interval between two calls of `send_heartbeats`.
            send_heartbeats: queues a heartbeat for every watcher.
        """
        self._limits = limits
        self._timeout = limits.config.send_timeout.total_seconds()
        self._max_age = max_age.total_seconds()
        self._interval = heartbeat.total_seconds()
        self._send_heartbeats = send_heartbeats
        self._ready: SimpleQueue[_OpenStream | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._streams: dict[Source, _OpenStream] = {}
        self._next_heartbeat = time.monotonic() + self._interval
        self._sender = BackgroundThread("identity-sender", self._send, wake=self._wake_all)
        self._timers = BackgroundThread("identity-send-times", every(_TICK, self._check_times))
        self._log = structlog.get_logger()

    def start(self) -> None:
        """Start the threads."""
        self._sender.start()
        self._timers.start()

    def add(self, source: Source, stream: ResponseStream, request_id: str, gone: Callable[[], None]) -> None:
        """Send the messages of `source` on this stream; call `gone`, at least once, when the stream ends."""
        # At random, so that streams that began together do not all begin again together.
        age = self._max_age * random.uniform(0.9, 1.0)  # noqa: S311  # no secret
        opened = _OpenStream(source, stream, request_id, gone, time.monotonic() + age)
        with self._lock:
            self._streams[source] = opened
        if not stream.on_end(lambda: self._ended(opened)):
            self._ended(opened)
        if self._sender.stopping.is_set():  # `stop` may have run before the stream was added
            stream.end(_stopping(request_id))
        self._ready.put(opened)

    def wake(self, source: Source) -> None:
        """Notify the sending thread that this source has a message."""
        opened = self._streams.get(source)
        if opened is not None:
            self._ready.put(opened)

    def end(self, source: Source, error: Exception) -> None:
        """End the stream of this source with the status of an error. Ignored if the stream has ended."""
        opened = self._streams.get(source)
        if opened is not None:
            opened.stream.end(to_status(error, opened.request_id))

    def stop(self) -> None:
        """End all streams, so that their clients reconnect to another process."""
        self._timers.close()
        self._sender.close()
        self._sender.join(_STOP_TIMEOUT)

    def _wake_all(self) -> None:
        """Wake the sending thread, which ends all streams and then itself."""
        for opened in (*self._all_streams(), None):
            self._ready.put(opened)

    def _all_streams(self) -> list[_OpenStream]:
        with self._lock:
            return list(self._streams.values())

    def _ended(self, opened: _OpenStream) -> None:
        with self._lock:
            self._streams.pop(opened.source, None)
        opened.gone()

    def _send(self, stopping: threading.Event) -> None:
        while (opened := self._ready.get()) is not None:
            try:
                self._send_next(opened, stopping)
            except Exception as error:  # noqa: BLE001  # one stream must not end the thread
                self._log.error("watch_bug", request_id=opened.request_id, error=type(error).__name__)
                opened.stream.end(to_status(error, opened.request_id))

    def _send_next(self, opened: _OpenStream, stopping: threading.Event) -> None:
        if stopping.is_set():
            self._send_last(opened)
        elif opened.since is None:
            if opened.source.overflowed:
                error = WatcherTooSlowError(
                    "this watcher reads more slowly than changes arrive; reconnect and resume"
                )
                self._count(opened, "watch_queue")
                opened.stream.end(to_status(error, opened.request_id))
                return
            message = opened.source.take()
            if message is not None:
                opened.since = time.monotonic()
                opened.stream.send(message, lambda: self._taken(opened))

    def _taken(self, opened: _OpenStream) -> None:
        opened.since = None
        if opened.stream.is_active():
            self._ready.put(opened)

    def _send_last(self, opened: _OpenStream) -> None:
        end = _stopping(opened.request_id)
        message = opened.source.last() if opened.since is None else None
        if message is None:
            opened.stream.end(end)
        else:
            opened.stream.send(message, lambda: opened.stream.end(end))

    def _check_times(self) -> None:
        now = time.monotonic()
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + self._interval
            self._send_heartbeats()
        for opened in self._all_streams():
            since = opened.since
            if since is not None and now - since > self._timeout:
                self._count(opened, "send_timeout")
                opened.stream.cancel()  # a client that does not read would not get a status
            elif now >= opened.end_by:
                opened.end_by = math.inf
                opened.stream.end(to_status(ShuttingDownError(_TOO_OLD), opened.request_id))

    def _count(self, opened: _OpenStream, setting: str) -> None:
        """Count that a limit ends this stream, before it has ended; a stream is counted once."""
        if not opened.limited:
            opened.limited = True
            self._limits.hit(setting, opened.stream.address)


def _stopping(request_id: str) -> RpcStatus:
    return to_status(ShuttingDownError(), request_id)
