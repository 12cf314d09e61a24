"""The server's log: the form of its lines, and that logging never waits for the reader of the output."""

import json
import logging
import threading

import pytest
from structlog.testing import capture_logs

from identity_service.telemetry.logs import (
    LineWriter,
    StructuredEventLog,
    _LibraryFormatter,
    _QueuedLines,
    _render,
    _stamp,
)
from tests.patience import PATIENCE


class Reader:
    """Reads lines; its first read waits until the test allows it."""

    def __init__(self) -> None:
        self.reading, self.go_on, self.said = threading.Event(), threading.Event(), threading.Event()
        self.lines: list[bytes] = []

    def write(self, lines: bytes) -> None:
        self.reading.set()
        assert self.go_on.wait(PATIENCE)
        self.lines += lines.splitlines()
        if b"dropped 2" in self.lines:
            self.said.set()


def a_writer(reader: Reader, waiting: int = 100) -> LineWriter:
    return LineWriter(reader.write, lambda count: f"dropped {count}\n".encode(), waiting=waiting)


def test_lines_are_written_in_order_and_none_is_lost_at_the_end() -> None:
    reader = Reader()
    reader.go_on.set()
    writer = a_writer(reader, waiting=3000)
    lines = [f"{number}".encode() for number in range(2500)]
    for line in lines:
        writer.put(line + b"\n")

    writer.close(PATIENCE)

    assert reader.lines == lines


def test_without_a_reader_no_thread_waits_and_dropped_lines_are_counted() -> None:
    reader = Reader()
    writer = a_writer(reader, waiting=3)
    writer.put(b"first\n")
    assert reader.reading.wait(PATIENCE)

    for number in range(5):
        writer.put(f"{number}\n".encode())
    reader.go_on.set()

    assert reader.said.wait(PATIENCE)
    writer.close(PATIENCE)
    assert reader.lines == [b"first", b"0", b"1", b"2", b"dropped 2"]


def test_the_messages_of_libraries_wait_for_no_reader() -> None:
    reader = Reader()
    writer = a_writer(reader)
    handler = logging.StreamHandler(_QueuedLines(writer.put))
    handler.setFormatter(_LibraryFormatter("%(message)s"))
    writer.put(b"first\n")
    assert reader.reading.wait(PATIENCE)

    error = (ValueError, ValueError("a\x1bb"), None)
    handler.handle(logging.LogRecord("grpc", logging.ERROR, "", 0, "a bug: \udcff", (), error))
    reader.go_on.set()
    writer.close(PATIENCE)

    assert (reader.lines[0], reader.lines[1]) == (b"first", b"a bug: \\udcff")
    assert reader.lines[-1] == b"  | ValueError: a\\x1bb"


def test_a_closed_pipe_ends_no_thread() -> None:
    tried, again = threading.Event(), threading.Event()

    def write(_: bytes) -> None:
        (again if tried.is_set() else tried).set()
        raise BrokenPipeError

    writer = LineWriter(write, lambda _: b"")
    writer.put(b"one\n")
    assert tried.wait(PATIENCE)
    writer.put(b"two\n")

    assert again.wait(PATIENCE)
    writer.close(PATIENCE)


def test_a_line_is_json_with_level_and_time_in_utc() -> None:
    line = _render(None, "info", _stamp(None, "info", {"event": "token_issued", "jti": "a\nb"}))

    read = json.loads(line)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert (read["event"], read["level"], read["jti"]) == ("token_issued", "info", "a\nb")
    assert read["timestamp"].endswith("Z")


def test_values_that_the_fast_encoder_refuses_are_still_written() -> None:
    odd = {"event": "odd", "text": "\ud800", "number": 2**70, "object": object}

    assert json.loads(_render(None, "info", odd))["text"] == "\ud800"
    assert json.loads(_render(None, "info", odd))["number"] == 2**70


@pytest.mark.parametrize(
    ("event", "level"),
    [("store_refused", "error"), ("store_mended", "info"), ("issuer_keys_failed", "warning")],
)
def test_an_event_that_needs_action_has_the_level_error(event: str, level: str) -> None:
    with capture_logs() as lines:
        StructuredEventLog().record(event, what="something")

    assert lines == [{"event": event, "log_level": level, "what": "something"}]
