"""Services in a real Envoy, for tests that also run against a grpcio service in this process.

An Envoy takes two seconds to start. Services with the same kinds of listeners therefore share one Envoy, one
after the other.
"""

import ssl
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from operator import attrgetter
from pathlib import Path

from identity_service.composition.listeners import reserve_addresses, tls_files
from identity_service.envoy.certificates import hand_over
from identity_service.envoy.configuration import EnvoyConfig
from identity_service.envoy.plan import Plan
from identity_service.envoy.process import EnvoyProcess
from identity_service.envoy.service import envoy_config, ports
from identity_service.settings import Settings
from identity_service.telemetry.logs import StructuredEventLog
from identity_service.transport.tls import Certificates, TlsFiles
from tests.ports import reserve_address
from tests.rpc.envoy_inside import CallOrder, StalenessOrder, StartOrder, StoreAddress

_APP = "tests.rpc.envoy_inside:app"


class RemoteService:
    """A service in Envoy. A call such as `service._use.rotation.maintain()` runs inside the Envoy process.

    A test that needs the objects of the service themselves runs on grpcio alone (marker `in_process`).
    """

    def __init__(self, host: "EnvoyHost") -> None:
        self._host = host
        self._stopped = False

    @property
    def places(self) -> Mapping[str, str]:
        """The addresses (host:port) of the gRPC listeners, by the names of their settings."""
        return {"listen": self._host.target, "mtls_listen": self._host.mtls_listen}

    def stop(self) -> bool:
        if self._stopped:
            return True
        self._stopped = True
        return bool(self._host.order(None))

    def update(self, path: str, values: Mapping[str, object]) -> None:
        """Set attributes of the object at this attribute path of the service, such as `_apis.limits`."""
        self._host.order(CallOrder(path=f"{path}.__dict__.update", args=(), named=values))

    def drain(self) -> None:
        """Have Envoy accept no new connections, and ask the clients of the open ones to leave."""
        self._host.drain()

    def staleness(self) -> float | None:
        """Return the staleness of the service in seconds, or None if the service has stopped."""
        found = None if self._stopped else self._host.order(StalenessOrder())
        assert found is None or isinstance(found, float)
        return found

    def __getattr__(self, name: str) -> "_Remote":
        return _Remote(self._host, name)


def change(service: object, path: str, **values: object) -> None:
    """Set attributes of an object inside a service, which runs in this process or in an Envoy.

    Args:
        service: the `Service` or `RemoteService`.
        path: the names of attributes that lead to the object, such as `_apis.limits`.
        values: the attributes and their new values.
    """
    if isinstance(service, RemoteService):
        service.update(path, values)
    else:
        vars(attrgetter(path)(service)).update(values)


class _Remote:
    def __init__(self, host: "EnvoyHost", path: str) -> None:
        self._host = host
        self._path = path

    def __getattr__(self, name: str) -> "_Remote":
        return _Remote(self._host, f"{self._path}.{name}")

    def __call__(self, *args: object, **named: object) -> object:
        return self._host.order(CallOrder(path=self._path, args=args, named=named))


class EnvoyHost:
    """One Envoy that listens with the settings' TLS, and runs one service at a time."""

    def __init__(self, settings: Settings, directory: Path, config: EnvoyConfig | None = None) -> None:
        """Start Envoy with `config`, or with the configuration that the settings imply if it is None."""
        self._envoy = EnvoyProcess()
        self._files: TlsFiles | None = None
        self.target = self.mtls_listen = ""
        self._log = (directory / "service.log").open("wb")
        self._reserved = ExitStack()
        places = {
            name: reserve_address()
            for name in ("listen", "mtls_listen", "http_listen", "http_mtls_listen")
            if getattr(settings, name).endswith(":0")
        }
        if settings.shares_port:
            places["http_listen"] = places["listen"]
        settings = reserve_addresses(settings.model_copy(update=places), self._reserved)
        self.http_listen = settings.http_listen
        self.http_mtls_listen = settings.http_mtls_listen
        self._certificate_updater(settings)
        try:
            self._envoy.launch(_APP, ports(settings), config or envoy_config(settings), self._log)
            self._envoy.await_listening(lambda code: None)
        except BaseException:
            self.close()
            raise
        self.target, self.mtls_listen = settings.listen, settings.mtls_listen

    def start_service(self, settings: Settings, store: StoreAddress, clock: Path) -> RemoteService:
        self._certificate_updater(settings)
        places = {
            "listen": self.target,
            "mtls_listen": self.mtls_listen,
            "http_listen": self.http_listen,
            "http_mtls_listen": self.http_mtls_listen,
        }
        settings = settings.model_copy(update=places)
        plan = Plan(settings=settings, python=sys.executable)
        self.order(StartOrder(plan=plan, store=store, clock=clock))
        return RemoteService(self)

    def _certificate_updater(self, settings: Settings) -> None:
        """Give Envoy the certificates of these settings; return once its listeners serve them."""
        files = tls_files(settings)
        if files is None or files == self._files:
            return
        self._files = files
        hand_over(Certificates(files, StructuredEventLog()).latest(), self._envoy.directory)
        leaf = files.certificate.read_text().partition("-----END")[0]
        for place in filter(None, (self.target, self.mtls_listen)):
            host, _, port = place.rpartition(":")
            while not ssl.get_server_certificate((host, int(port))).startswith(leaf):
                time.sleep(0.01)

    def drain(self) -> None:
        """Have Envoy accept no new connections, and ask the clients of the open ones to leave."""
        self._envoy.drain()

    def close(self) -> None:
        self._envoy.end()
        self._reserved.close()
        self._log.close()

    def order(self, order: StartOrder | CallOrder | StalenessOrder | None) -> object:
        """Send an order to the process in Envoy; return its result, or raise its exception."""
        self._envoy.pipe.send(order)
        answer: object = self._envoy.pipe.recv()
        if isinstance(answer, BaseException):
            raise answer
        return answer
