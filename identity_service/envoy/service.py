"""Runs a service inside Envoy from the process outside, with the interface of `bootstrap.Service`."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Final

from identity_service.composition.listeners import places, reserve_addresses, tls_files
from identity_service.domain.errors import ConfigurationError
from identity_service.domain.ports import EventLog
from identity_service.envoy.certificates import hand_over
from identity_service.envoy.configuration import EnvoyConfig, Listening
from identity_service.envoy.limits import EnvoyLimits, default_memory
from identity_service.envoy.plan import Plan
from identity_service.envoy.process import PATIENCE, EnvoyProcess
from identity_service.process import last_resort
from identity_service.process.addresses import port_of
from identity_service.settings import Settings
from identity_service.transport.tls import Certificates

_APP: Final = "identity_service.envoy.inside:app"
_MIN_TIMEOUT: Final = 0.1
"""The shortest timeout, in seconds; with 0, an operation would not be tried at all."""


class EnvoyService:
    """An Envoy process with one service in it. `start` returns when the service serves; `stop` drains it."""

    def __init__(
        self,
        settings: Settings,
        event_log: EventLog,
        *,
        share_port: bool = False,
        dev: bool = False,
        samples: Connection | None = None,
        ended: Callable[[], None],
    ) -> None:
        """Prepare a service; `start` starts it.

        Args:
            settings: the settings of the service.
            event_log: receives the events of this process, such as the end of Envoy.
            share_port: whether other workers share the addresses, which the caller has then reserved for all.
            dev: whether it runs with `--dev` (see `bootstrap.Service`).
            samples: the pipe on which the service sends its metrics; None = they are not wanted.
            ended: called from another thread if Envoy ends before `stop` or `kill` ends it.
        """
        self._settings = settings
        self._event_log = event_log
        self._share_port = share_port
        self._dev = dev
        self._samples = samples
        self._on_end = ended
        self._stack = ExitStack()
        self._envoy: EnvoyProcess | None = None
        self.places: Mapping[str, str] = {}
        """host:port of each listener, by its setting; known after `start`."""
        self._died = False
        self._stopping = False

    def start(self) -> int:
        """Start Envoy and the service, and return the port of `listen`.

        Raises ConfigurationError if Envoy does not start, and the errors of `Service` inside Envoy.
        """
        try:
            return self._start()
        except BaseException:
            self._release()
            raise

    @property
    def http_port(self) -> int:
        """Return the port of `http_listen`; 0 if there is none."""
        return port_of(self.places.get("http_listen", ""))

    def stop(self, grace: timedelta | None = None) -> bool:
        """Drain and end Envoy; return whether all calls ended in time.

        Calls in progress may take `grace`; None = `drain_grace`. Envoy is killed if the service in it has not
        ended in time. Raises ConfigurationError if Envoy had ended before this call.
        """
        self._stopping = True
        grace = self._settings.drain_grace if grace is None else grace
        deadline = time.monotonic() + grace.total_seconds() + last_resort.INSIDE + last_resort.BETWEEN
        envoy, done = self._envoy, False
        if envoy is not None:
            envoy.drain(_seconds_until(deadline))
            with suppress(OSError, EOFError):
                envoy.pipe.send(grace)
                done = envoy.pipe.poll(_seconds_until(deadline)) and envoy.pipe.recv()
        self._release(_seconds_until(deadline))
        if self._died:
            raise ConfigurationError("engine: Envoy ended by itself; its log says why")
        return done

    def kill(self) -> None:
        """Kill Envoy at once, if `stop` has not ended it in time. Any thread may call it."""
        if self._envoy is not None:
            self._envoy.kill()

    def _start(self) -> int:
        settings = self._settings
        if not self._share_port:  # else the caller has reserved the addresses
            settings = reserve_addresses(settings, self._stack)
        self._envoy = envoy = EnvoyProcess()
        files = tls_files(settings)
        if files is not None:
            hand_over(Certificates(files, self._event_log).latest(), envoy.directory)
        envoy.launch(_APP, ports(settings), envoy_config(settings), samples=self._samples)
        try:
            envoy.pipe.send(Plan(settings=settings, python=sys.executable, dev=self._dev))
            error = envoy.pipe.recv()
        except (EOFError, OSError):
            raise ConfigurationError("engine: Envoy ended before it served; its log says why") from None
        if error is not None:
            raise error
        envoy.await_listening(self._note_end)
        self.places = places(settings)
        return port_of(settings.listen)

    def _note_end(self, code: int) -> None:
        self._died = not self._stopping
        self._event_log.record("envoy_ended", code=code)
        self._on_end()

    def _release(self, patience: float = PATIENCE) -> None:
        """End Envoy, which is killed after `patience` seconds, and release the reserved addresses."""
        if self._envoy is not None:
            self._envoy.end(patience)
        self._stack.close()


def _seconds_until(deadline: float) -> float:
    """Return the seconds until the deadline, and at least 0.1."""
    return max(_MIN_TIMEOUT, deadline - time.monotonic())


def ports(settings: Settings) -> Sequence[Listening]:
    """Return the ports of the service."""
    tls, mutual = settings.tls_certificate is not None, settings.tls_client_ca is not None
    ask, shared = mutual and not settings.mtls_listen, settings.shares_port
    origins = settings.web_origins
    found = [Listening(name="listen", address=settings.listen, tls=tls, ask=ask, http=shared)]
    if shared:
        found = [replace(found[0], origins=origins)]
    if settings.mtls_listen:
        found.append(Listening(name="mtls_listen", address=settings.mtls_listen, tls=True, ask=True))
    if settings.http_listen and not shared:
        http = Listening(name="http_listen", address=settings.http_listen, tls=tls, http=True, grpc=False)
        found.append(replace(http, origins=origins))
    if settings.http_mtls_listen:
        address = settings.http_mtls_listen
        http = Listening(name="http_mtls_listen", address=address, tls=True, http=True, grpc=False)
        found.append(replace(http, ask=True))
    return found


def envoy_config(settings: Settings) -> EnvoyConfig:
    """Return the part of the settings that Envoy enforces."""
    return EnvoyConfig(
        max_connection_age=settings.max_connection_age,
        drain_grace=settings.drain_grace,
        limits=EnvoyLimits(
            request_timeout=settings.request_timeout,
            open_ended=settings.reflection,
            send_timeout=settings.send_timeout,
            max_connections=settings.max_connections,
            max_streams_per_connection=settings.max_streams_per_connection,
            memory=settings.envoy_memory or default_memory(max(1, settings.workers)),
        ),
    )
