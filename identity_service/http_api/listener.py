"""The HTTP listener under the grpcio engine: uvicorn's protocol on an event loop in a thread of the process.

It accepts connections itself, so that it counts them before the handshake of TLS, and each handshake presents
the latest certificate.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.server import ServerState

from identity_service.http_api.app import MAX_HEADER_BYTES
from identity_service.http_api.connection import HttpConnection
from identity_service.http_api.peers import grpc_peer
from identity_service.http_api.tls import TlsContexts
from identity_service.process.addresses import cannot_listen, with_port
from identity_service.process.background import BackgroundThread
from identity_service.transport.asgi import AsgiApp
from identity_service.transport.limits import Limits
from identity_service.transport.tls import Certificates

_BACKLOG: Final = 1024
_KEEP_ALIVE: Final = 75
"""Seconds after which a connection without a request is closed; load balancers keep one for 60 s."""
_ACCEPT_PAUSE: Final = 0.1
"""Seconds until the next try to accept a connection if the process may open no further file."""
_FLUSH: Final = 0.5
"""Seconds that answers have to leave the process once no request is in progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpListenerConfig:
    """The address of the listener, and its limits beside those of `Limits`."""

    listen: str
    """host:port; port 0 stands for a free port."""
    max_connections: int = 20_000
    """A further connection is closed as soon as it is opened."""
    max_connection_age: timedelta = timedelta(minutes=30)
    """The age at which a connection is closed, after the answer that is being made. Its certificate was
    verified when it began."""
    setting: str = "http_listen"
    """The setting that has the address, for errors."""
    ask: bool = False
    """True if every client must present a certificate of the client authorities; needs certificates."""
    share_port: bool = False
    """True if other processes of this service listen on the same port (SO_REUSEPORT)."""


class HttpListener:
    """A listener that serves an application in a thread of its own."""

    def __init__(
        self,
        app: AsgiApp,
        config: HttpListenerConfig,
        limits: Limits,
        certificates: Certificates | None = None,
    ) -> None:
        """Create a listener that does not listen yet. Raises ConfigurationError.

        Args:
            app: the application.
            config: the address and limits.
            limits: bound slow clients.
            certificates: the certificates that it presents; None = plain text.
        """
        self._app = app
        self._config = config
        self._limits = limits
        self._tls = TlsContexts(certificates, ask=config.ask) if certificates is not None else None
        self._uvicorn = uvicorn_config(app)
        self._state = ServerState()
        self._tasks: set[asyncio.Task[None]] = set()
        """One for each connection, from the time that it is accepted."""
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closing = False
        self._ended: asyncio.Event | None = None
        name = "identity-http-mtls" if config.ask else "identity-http"
        self._thread = BackgroundThread(name, self._run, lambda: self._call(self._end))

    @property
    def setting(self) -> str:
        """Return the setting that names the address."""
        return self._config.setting

    def start(self) -> str:
        """Listen and return host:port. Raises ConfigurationError if the address cannot be bound."""
        self._socket = listening = _bound(self._config)
        self._thread.start()
        return with_port(self._config.listen, listening.getsockname()[1])

    def stop_accepting(self) -> None:
        """Close the port and the connections without a request; requests in progress go on."""
        self._call(self._close_port)

    def close(self, timeout: float) -> None:
        """Close all connections, and wait at most `timeout` seconds for the end of the thread."""
        self._thread.close()
        self._thread.join(timeout)
        if self._socket is not None:
            self._socket.close()

    def _call(self, step: Callable[[], None]) -> None:
        """Run a step on the event loop. Does nothing if the loop has not started or has ended."""
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(step)

    def _end(self) -> None:
        if self._ended is not None:
            self._ended.set()

    def _run(self, stopping: threading.Event) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve(stopping))

    async def _serve(self, stopping: threading.Event) -> None:
        """Serve connections until told to end."""
        self._ended, self._loop = asyncio.Event(), asyncio.get_running_loop()
        self._open_port()
        if not stopping.is_set():
            await self._ended.wait()
        self._close_port()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_FLUSH)
        for connection in list(self._state.connections):
            connection.transport.abort()

    def _accept(self) -> None:
        """Accept the connections that wait. The event loop calls it when there are some.

        Not `loop.sock_accept`: if that is cancelled, it may lose a connection that it has accepted.
        """
        listening, loop = self._socket, self._loop
        if listening is None or loop is None:
            raise AssertionError("it does not listen")
        for _ in range(_BACKLOG):
            try:
                accepted, client = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # the process may open no further file
                loop.remove_reader(listening)
                loop.call_later(_ACCEPT_PAUSE, self._open_port)
                return
            if len(self._tasks) >= self._config.max_connections:
                peer = self._limits.peers.connection_address_of(grpc_peer(client[:2]))
                self._limits.hit("max_connections", peer)
                accepted.close()
                continue
            accepted.setblocking(False)  # noqa: FBT003  # has no keyword
            task = loop.create_task(self._serve_connection(accepted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _open_port(self) -> None:
        if self._loop is not None and self._socket is not None and not self._is_closing:
            self._loop.add_reader(self._socket, self._accept)

    def _close_port(self) -> None:
        if not self._is_closing and self._loop is not None and self._socket is not None:
            self._is_closing = True
            self._loop.remove_reader(self._socket)
            self._socket.close()
        for connection in list(self._state.connections):
            connection.shutdown()

    async def _serve_connection(self, accepted: socket.socket) -> None:
        """Do the handshake of TLS, and wait for the end of the connection."""
        loop = asyncio.get_running_loop()
        connection = HttpConnection(self._uvicorn, self._state, self._limits, self._config.max_connection_age)
        limits = self._limits.config
        tls: dict[str, Any] = {}
        if self._tls is not None:
            # In a thread, since it reads files.
            context = await loop.run_in_executor(None, self._tls.latest)
            tls = {
                "ssl": context,
                "ssl_handshake_timeout": limits.request_timeout.total_seconds(),
                "ssl_shutdown_timeout": limits.send_timeout.total_seconds(),
            }
        try:
            await loop.connect_accepted_socket(lambda: connection, accepted, **tls)
        except OSError:  # the handshake failed, or took too long
            return
        await connection.lost.wait()


def _bound(config: HttpListenerConfig) -> socket.socket:
    """Return a socket that listens. Raises ConfigurationError if the address cannot be bound."""
    host, _, port = config.listen.rpartition(":")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with ExitStack() as stack:
            # With the protocol, since asyncio sets TCP_NODELAY only on sockets that name it. Without it, the
            # end of an answer waits for 40 ms, until the client acknowledges the beginning.
            listening = stack.enter_context(socket.socket(family, kind, protocol))
            listening.setblocking(False)  # noqa: FBT003  # has no keyword
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if config.share_port:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
            stack.pop_all()
            return listening
    except OSError as error:
        raise cannot_listen(config.listen, config.setting, error) from error


def uvicorn_config(app: AsgiApp) -> Config:
    """Return the configuration of uvicorn: it logs nothing, and believes no header about the client."""
    config = Config(
        app,
        interface="asgi3",
        http=HttpConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    config.load()
    return config
