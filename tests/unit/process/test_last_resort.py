"""A process that still runs some time after it was told to stop is ended, and the reason is logged."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from identity_service.process.exit_codes import Exit
from tests.patience import PATIENCE

_PROGRAM = """
import ctypes, os, signal, sys, threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from identity_service.process import last_resort
from identity_service.serving import server_process
from identity_service.telemetry import logs

last_resort.SERVING = 0.2
last_resort._STEP, last_resort._NATIVE = 5, 600  # a busy machine may need long for what takes no time
settings = SimpleNamespace(drain_grace=timedelta(0))
logs.configure("error", "json")

class Service:
    places = {}

    def start(self):
        return 1

    def stop(self, grace):
        return True

def order(*_):
    os.kill(os.getpid(), signal.SIGTERM)

def never_ends():
    threading.Event().wait()

def serve(service):
    server_process._open = lambda settings, stop, *_, **__: service(stop)
    print(server_process.serve(settings, order), flush=True)
"""
_STOP_HANGS = """
class Hangs(Service):
    def stop(self, grace):
        never_ends()

serve(lambda _: Hangs())
"""
_START_HANGS = """
class Hangs(Service):
    def start(self):
        order()
        never_ends()

serve(lambda _: Hangs())
"""
_A_THREAD_OF_A_POOL_HANGS = """
pool = ThreadPoolExecutor(1, "waits-for-a-client")
pool.submit(never_ends)
serve(lambda _: Service())
"""
_NATIVE_CODE_KEEPS_THE_LOCK = """
last_resort._NATIVE = 0.2

class Hangs(Service):
    def stop(self, grace):
        ctypes.PyDLL(None).sleep(1_000_000)  # it keeps the interpreter's lock

serve(lambda _: Hangs())
"""
_CLEANS_UP = """
class Hangs(Service):
    def __init__(self, stop):
        stop.last_resort.before_end(never_ends)
        stop.last_resort.before_end(lambda: os.write(1, b"cleaned up"))

    def stop(self, grace):
        never_ends()

serve(Hangs)
"""

_IS_ORPHANED_WHILE_IT_STOPS = """
settings.drain_grace = timedelta(minutes=10)

class Hangs(Service):
    def stop(self, grace):
        stop.give_without_parent()
        print(stop.grace, flush=True)
        never_ends()

def begin(ordered):
    global stop
    stop = ordered
    return Hangs()

serve(begin)
"""


def run(program: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM + program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def events(said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def test_a_service_that_does_not_stop_is_ended_with_one_line_of_the_log() -> None:
    done = run(_STOP_HANGS)

    assert done.returncode == Exit.FORCED
    (event,) = events(done.stderr)
    assert (event["event"], event["level"], event["threads"]) == ("stop_forced", "error", ["MainThread"])


def test_a_service_that_does_not_start_is_ended_as_well_once_it_was_ordered_to_stop() -> None:
    assert run(_START_HANGS).returncode == Exit.FORCED


def test_a_thread_that_hangs_does_not_keep_the_interpreter_from_ending() -> None:
    done = run(_A_THREAD_OF_A_POOL_HANGS)

    assert done.stdout == "True\n", "the service stopped as it should"
    assert done.returncode == Exit.FORCED
    (event,) = events(done.stderr)
    assert "waits-for-a-client_0" in event["threads"]


def test_a_process_whose_native_code_holds_the_interpreter_is_ended_and_reports_where() -> None:
    done = run(_NATIVE_CODE_KEEPS_THE_LOCK)

    assert done.returncode == Exit.FAILED
    assert "in stop" in done.stderr


def test_each_cleanup_runs_even_if_another_one_hangs() -> None:
    done = run(_CLEANS_UP)

    assert done.returncode == Exit.FORCED
    assert done.stdout == "cleaned up"


def test_a_process_whose_parent_ends_while_it_stops_has_less_time_from_then_on() -> None:
    done = run(_IS_ORPHANED_WHILE_IT_STOPS)

    assert done.returncode == Exit.FORCED
    assert done.stdout == "0:00:00.250000\n"


def test_a_log_that_nothing_reads_does_not_keep_it_from_ending() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    program = _PROGRAM + "last_resort._STEP = 0.2\nserve(lambda _: Service())"
    try:
        process = subprocess.Popen([sys.executable, "-c", program], stderr=writing)
        assert process.wait(PATIENCE) == Exit.FORCED
    finally:
        os.close(reading)
        os.close(writing)


def test_a_process_that_ends_in_time_is_neither_ended_nor_reported() -> None:
    done = run("last_resort.SERVING = 600\nserve(lambda _: Service())")

    assert (done.returncode, done.stdout) == (0, "True\n")
    assert events(done.stderr) == []


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_error_can_be_written_at_once_in_each_form_of_the_log(tmp_path: Path, log_format: str) -> None:
    program = f"""
import os
from identity_service.telemetry import logs
logs.configure("error", "{log_format}")
logs.write_error("stop_forced", threads=["one"])
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, check=True)

    assert "stop_forced" in done.stderr
    assert "one" in done.stderr
    assert "error" in done.stderr
    assert done.stderr.count("\n") == 1
