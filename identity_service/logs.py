"""Logs: events with fields, as JSON lines or for people, on standard error. Implements the port Journal.

Never a sentence with values in it, and never a secret: what is logged is named field by field.
"""

import logging
import sys
from typing import Literal

import structlog


def configure(level: str, log_format: Literal["json", "console"]) -> None:
    """Set up logging for this process; called once, by the composition root."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    logging.getLogger("identity").setLevel(threshold)
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


class LogJournal:
    """Implements the port Journal with the structured log."""

    def __init__(self) -> None:
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger("identity.journal")

    def record(self, event: str, **fields: object) -> None:
        self._log.info(event, **fields)
