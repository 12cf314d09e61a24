"""The thread that writes the log, when the system gives no thread at first."""

import threading

import pytest

from identity_service.telemetry.logs import LineWriter
from tests.patience import until


def refuse(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_lines_wait_until_the_system_gives_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    writer = LineWriter(written.append, lambda _: b"")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        writer.put(b"first\n")

    writer.put(b"second\n")

    until(lambda: b"".join(written) == b"first\nsecond\n")
    writer.close()


def test_lines_are_written_at_the_end_if_there_never_was_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    writer = LineWriter(written.append, lambda _: b"")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    writer.put(b"first\n")

    writer.close()

    assert b"".join(written) == b"first\n"
