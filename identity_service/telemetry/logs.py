"""Logs: events with fields, as JSON lines or for people, on standard error. Implements the port EventLog.

Never a sentence with values in it, and never a secret: what is logged is named field by field. Control
characters are escaped in both forms, and in what libraries log: a terminal may be reading.
"""

import json
import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal

import orjson
import structlog
from structlog.typing import EventDict, Processor

from identity_service.domain.visible import escape, escape_json
from identity_service.telemetry.line_writer import LineWriter


def configure(level: str, log_format: Literal["json", "console"]) -> None:
    """Set up logging for this process; called once, by the composition root."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_LibraryFormatter())
    logging.getLogger("identity").setLevel(threshold)
    processors, loggers = _for_programs() if log_format == "json" else _for_people()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *processors],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=loggers,
        cache_logger_on_first_use=True,
    )


def _for_people() -> tuple[list[Processor], Callable[..., object]]:
    """Each line as soon as it is said."""
    rendering: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _escape_fields,
        structlog.dev.ConsoleRenderer(),
    ]
    return rendering, structlog.WriteLoggerFactory(file=sys.stderr)


def _for_programs() -> tuple[list[Processor], Callable[..., object]]:
    """Lines a moment later, many at once: a server says something on most calls."""
    stream = sys.stderr.buffer

    def write(lines: bytes) -> None:
        stream.write(lines)
        stream.flush()

    logger = _LineLogger(LineWriter(write, _lines_dropped).put)
    return [_stamp, _render], lambda *_: logger


class _LibraryFormatter(logging.Formatter):
    """Formats what libraries log: the message on one line, and the lines of a traceback marked as such."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name is logging's
        return escape(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802  # the name is logging's
        return "\n".join(f"  | {escape(line)}" for line in super().formatException(ei).splitlines())


def _escape_fields(_: object, __: str, event: EventDict) -> EventDict:
    """The renderer for people prints texts as they are, and spells out what else there is by its repr."""
    return {escape(name): _escaped(value) for name, value in event.items()}


def _escaped(value: object) -> object:
    return value if isinstance(value, bool | int | float | None) else escape(f"{value}")


class _LineLogger:
    """What structlog hands a finished line to, by the name of its level."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = put


def _stamp(_: object, level: str, event: EventDict) -> EventDict:
    event["level"] = level
    event["timestamp"] = datetime.now(UTC)
    return event


def _render(_: object, __: str, event: EventDict) -> bytes:
    try:
        line = orjson.dumps(event, repr, orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # a text that is not Unicode, a number of more than 64 bits
        line = f"{json.dumps(event, default=str)}\n".encode()
    # Most lines are of ASCII, in which JSON leaves one control character alone: DEL.
    return line if line.isascii() and b"\x7f" not in line else escape_json(line.decode()).encode()


def _lines_dropped(count: int) -> bytes:
    return _render(None, "", _stamp(None, "warning", {"count": count, "event": "log_lines_dropped"}))


def write_error(event: str, **fields: object) -> None:
    """Write an error at once, in this thread, for a process that ends before a waiting line is written.

    Blocks while nothing reads the log. Raises OSError if nothing can be written.
    """
    line: Any = {"event": event, **fields}
    for processor in structlog.get_config()["processors"]:
        line = processor(None, "error", line)
    os.write(sys.stderr.fileno(), line if isinstance(line, bytes) else f"{line}\n".encode())


_ERRORS: Final = frozenset(
    {
        "clock_refused",
        "follower_bug",
        "grpcio_fallback",
        "keys_not_maintained",
        "own_writes_lost",
        "resend_dropped",
        "store_moved",
        "store_refused",
    }
)
"""Events after which a promise may not be kept until an operator acts."""
_WARNINGS: Final = frozenset(
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
        "store_lost",
        "store_warning",
        "tls_key_exposed",
    }
)
"""Events that say that something was lost, has no effect or is open to others, while the service goes on."""


class StructuredEventLog:
    """Implements the port EventLog with the structured log."""

    def __init__(self) -> None:
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger("identity.journal")

    def record(self, event: str, **fields: object) -> None:
        if event in _ERRORS:
            self._log.error(event, **fields)
        elif event in _WARNINGS:
            self._log.warning(event, **fields)
        else:
            self._log.info(event, **fields)
