"""The structured log on standard error, as JSON lines or readable text. Implements the port EventLog.

An entry is an event with named fields, never a sentence with values in it, and never holds a secret. Control
characters are escaped in both formats and in the messages of libraries, since a terminal may show the log.
"""

import atexit
import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

import orjson
import structlog
from structlog.typing import EventDict, Processor

from identity_service.domain.visible import escape, escape_json

_MAX_WAITING: Final = 20_000
"""The largest number of lines that wait to be written."""
_BATCH_DELAY: Final = 0.02
"""The number of seconds that the first line waits for others to be written with it.

Every write releases the GIL: without the wait, an Issue takes 9 to 12 % more CPU time (docs/decisions/0028).
"""
_MAX_BATCH: Final = 1000
"""The largest number of lines in one write."""
_QUOTING: Final = ("grpc._common", "grpc._cython.cygrpc")
"""The loggers of grpcio that quote each text of a call which is not UTF-8, such as a value of metadata.

It may be a token, or megabytes long."""


def configure(level: str, log_format: Literal["json", "console"]) -> None:
    """Set up logging for this process; called once, when it starts."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    processors, loggers, stream = _for_programs() if log_format == "json" else _for_people()
    logging.basicConfig(level=logging.WARNING, stream=stream)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_LibraryFormatter())
    for name in _QUOTING:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("identity").setLevel(threshold)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *processors],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=loggers,
        cache_logger_on_first_use=True,
    )


class _Stream(Protocol):
    """The stream to which the messages of libraries are written."""

    def write(self, text: str, /) -> object:
        """Write whole lines."""


def _for_people() -> tuple[list[Processor], Callable[..., object], _Stream]:
    """Return the processors, the loggers and the stream for readable text; each line is written at once."""
    rendering: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _escape_fields,
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR")),
    ]
    return rendering, structlog.WriteLoggerFactory(file=sys.stderr), sys.stderr


def _for_programs() -> tuple[list[Processor], Callable[..., object], _Stream]:
    """Return the processors, the loggers and the stream for JSON.

    Lines are written in batches, since most calls log one.
    """
    stream = sys.stderr.buffer

    def write(lines: bytes) -> None:
        stream.write(lines)
        stream.flush()

    put = LineWriter(write, _lines_dropped).put
    logger = _LineLogger(put)
    return [_stamp, _render], lambda *_: logger, _QueuedLines(put)


class _LibraryFormatter(logging.Formatter):
    """A formatter for the messages of libraries: one line each, followed by marked lines of a traceback."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name is logging's
        return escape(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802  # the name is logging's
        return "\n".join(f"  | {escape(line)}" for line in super().formatException(ei).splitlines())


def _escape_fields(_: object, __: str, event: EventDict) -> EventDict:
    """Escape names and values: structlog's ConsoleRenderer prints texts unchanged."""
    return {escape(name): _escaped(value) for name, value in event.items()}


def _escaped(value: object) -> object:
    return value if isinstance(value, bool | int | float | None) else escape(f"{value}")


class _LineLogger:
    """A logger for structlog that puts finished lines into the queue, at every level."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = put


class _QueuedLines:
    """A stream for the handlers of `logging` that puts lines into the queue."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self._put = put

    def write(self, text: str, /) -> None:
        """Queue the lines of one message."""
        self._put(text.encode("utf-8", "backslashreplace"))


class LineWriter:
    """A bounded queue of log lines and a thread that writes many of them at once.

    A thread that logs never waits, even if nothing reads the log; beyond the bound lines are dropped and
    counted.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        say_dropped: Callable[[int], bytes],
        *,
        waiting: int = _MAX_WAITING,
    ) -> None:
        """Create the queue; the thread starts with the first line.

        Args:
            write: writes whole lines; may block.
            say_dropped: returns the line that reports how many lines were dropped.
            waiting: the largest number of lines that wait to be written; further lines are dropped.
        """
        self._write = write
        self._say_dropped = say_dropped
        self._limit = waiting
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._dropped = 0
        self._thread: threading.Thread | None = None
        self._has_begun = False
        """True if the waiting lines are written when the process ends."""
        self._closing = threading.Event()

    def put(self, line: bytes) -> None:
        """Queue a line, which is written about 20 ms later. Never blocks."""
        if self._lines.qsize() < self._limit:
            self._lines.put(line)
            if self._thread is None:
                self._start()
        else:
            with self._lock:
                self._dropped += 1

    def close(self, timeout: float = 2.0) -> None:
        """Write the waiting lines, for at most `timeout` seconds, and end the thread.

        Without a thread the caller writes them.
        """
        self._closing.set()
        self._lines.put(b"")
        if self._thread is not None:
            self._thread.join(timeout)
        elif self._has_begun:
            self._run()

    def _start(self) -> None:
        """Start the thread. If the system gives none, lines wait, and the next one tries again."""
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="identity-log", daemon=True)
                if not self._has_begun:
                    self._has_begun = True
                    atexit.register(self.close)
                with suppress(RuntimeError):
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        while not (self._closing.is_set() and self._lines.empty()):
            lines = [self._lines.get()]
            self._closing.wait(_BATCH_DELAY)
            lines += [self._lines.get() for _ in range(min(self._lines.qsize(), _MAX_BATCH))]
            with self._lock:
                dropped, self._dropped = self._dropped, 0
            if dropped:
                lines.append(self._say_dropped(dropped))
            try:
                self._write(b"".join(lines))
            except (OSError, ValueError):  # the log is closed: go on, the lines are lost
                continue


def _stamp(_: object, level: str, event: EventDict) -> EventDict:
    event["level"] = level
    event["timestamp"] = datetime.now(UTC)
    return event


def _render(_: object, __: str, event: EventDict) -> bytes:
    try:
        line = orjson.dumps(event, repr, orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # a text with surrogates, or an integer of more than 64 bits
        line = f"{json.dumps(event, default=str)}\n".encode()
    # Most lines are ASCII, and JSON escapes all ASCII control characters but DEL.
    return line if line.isascii() and b"\x7f" not in line else escape_json(line.decode()).encode()


def _lines_dropped(count: int) -> bytes:
    return _render(None, "", _stamp(None, "warning", {"count": count, "event": "log_lines_dropped"}))


def write_error(event: str, **fields: object) -> None:
    """Write an error synchronously, for a process that ends before the background thread writes it.

    Blocks while nothing reads the log. Raises OSError if the line cannot be written.
    """
    line: Any = {"event": event, **fields}
    for processor in structlog.get_config()["processors"]:
        line = processor(None, "error", line)
    os.write(sys.stderr.fileno(), line if isinstance(line, bytes) else f"{line}\n".encode())


ERRORS: Final = frozenset(
    {
        "clock_refused",
        "envoy_ended",
        "follower_bug",
        "grpcio_fallback",
        "keys_not_maintained",
        "own_writes_lost",
        "resend_dropped",
        "store_moved",
        "store_refused",
        "workers_give_up",
    }
)
"""Events after which a guarantee may be broken until an operator acts; logged as errors."""
WARNINGS: Final = frozenset(
    {
        "clock_is_being_set",
        "clock_set_back",
        "epoch_renewed",
        "files_limited",
        "issuer_has_own_name",
        "issuer_keys_failed",
        "limit_reached",
        "log_incomplete",
        "log_rebuilt",
        "log_replaced",
        "principals_refused",
        "store_lost",
        "store_polled",
        "store_warning",
        "tls_key_exposed",
        "tls_refused",
        "traces_not_exported",
        "worker_cut_off",
        "worker_ended",
        "worker_not_started",
        "workers_not_renewed",
    }
)
"""Events that report that something was lost, has no effect, or is accessible to other users, while the
service goes on; logged as warnings."""


class StructuredEventLog:
    """An implementation of the port EventLog that writes to the structured log."""

    def __init__(self, counted: Mapping[str, Callable[[], object]] = MappingProxyType({})) -> None:
        """Create the log; `counted` maps the events that are also counted to the function that counts one."""
        # Bound once: structlog's proxy would be bound anew for each line (bars S6 and S7).
        self._log: Any = structlog.get_logger("identity.events").bind()
        self._counted = counted

    def record(self, event: str, **fields: object) -> None:
        """Log the event, at the level that its name has in this module, and count it if it is counted."""
        if event in self._counted:
            self._counted[event]()
        getattr(self._log, level_of(event))(event, **fields)


def level_of(event: str) -> str:
    """Return the level at which an event is logged: error, warning or info."""
    if event in ERRORS:
        return "error"
    return "warning" if event in WARNINGS else "info"
