"""A serving process ends on SIGTERM, at any moment and whichever thread receives the signal."""

import subprocess
import sys

import pytest

from tests.patience import PATIENCE

_SERVICE = """
import os, signal, sys, threading, time
from datetime import timedelta
from types import SimpleNamespace
from identity_service.process.signals import SignalThread
from identity_service.serving import server_process
from identity_service.serving.workers import Workers

main = threading.get_native_id()
settings = SimpleNamespace(drain_grace=timedelta(minutes=10))

def tell_when_the_main_thread_waits():
    # The system may hand a signal to any thread: then nothing interrupts what the main thread waits for.
    while open(f"/proc/self/task/{main}/stat").read().rpartition(")")[2].split()[0] != "S":
        time.sleep(0.01)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

def tell_soon(*_):
    threading.Thread(target=tell_when_the_main_thread_waits).start()

class Service:
    places = {}

    def start(self):
        return 1

    def stop(self, grace):
        return True
"""
_SERVES = """
server_process._open = lambda *_, **__: Service()
print(server_process.serve(settings, tell_soon))
"""
_INTERRUPTED = """
def trace(frame, event, argument):
    # In the middle of what waits for the order to stop, by whatever that may hold.
    ours = (threading.__file__, server_process.__file__)
    if frame.f_code.co_filename in ours and frame.f_code.co_name == "wait":
        sys.settrace(None)
        signal.raise_signal(signal.SIGTERM)
    return trace

server_process._open = lambda *_, **__: Service()
print(server_process.serve(settings, lambda *_: sys.settrace(trace)))
"""
_ORDERED = """
class Ends(Service):
    def __init__(self, stop):
        self.ended = stop.give

    def start(self):
        threading.Thread(target=self.ended).start()
        return 1

server_process._open = lambda settings, stop, *_, **__: Ends(stop)
print(server_process.serve(settings, lambda *_: None))
"""
_SUPERVISES = """
workers = Workers(None, None, count=0, grace=None)
SignalThread({signal.SIGTERM: workers.stop})
print(workers.run(None, tell_soon) == 0)
"""
_ORDERED_AGAIN = """
class Draining(Service):
    def stop(self, grace):
        # As when a shell signals the whole group and the supervisor its workers.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        time.sleep(0.1)
        return True

server_process._open = lambda *_, **__: Draining()
print(server_process.serve(settings, tell_soon))
"""
_COLLECTS = """
import gc

def opened(*_, **__):
    print(gc.isenabled())
    return Service()

def announced(*_):
    print(gc.isenabled(), gc.get_freeze_count() > 0)
    tell_soon()

server_process._open = opened
server_process.serve(settings, announced)
"""


@pytest.mark.parametrize("program", [_SERVES, _INTERRUPTED, _ORDERED, _SUPERVISES, _ORDERED_AGAIN])
def test_the_order_to_stop_ends_the_process(program: str) -> None:
    assert printed(program) == "True\n"


def test_garbage_is_collected_once_the_service_is_imported() -> None:
    assert printed(_COLLECTS) == "False\nTrue True\n"


def printed(program: str) -> str:
    """Return the output of a process whose service stops at once."""
    return subprocess.run(
        [sys.executable, "-c", _SERVICE + program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    ).stdout
