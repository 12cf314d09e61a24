"""A service in the process of the tests of another program, on an embedded store that is deleted afterwards.

from identity_service.testing import service

with service() as identity:
    identity.create_client("reports", audiences=["api"], scopes=["read"])

`identity_client.testing` describes what a test can do with it, and runs this module as a process of its own.
Its passwords are hashed cheaply: it is for tests only.
"""

import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import structlog

from identity_client.testing import ServiceUnderTest
from identity_service.bootstrap import Service
from identity_service.composition.store_admin import open_store_admin
from identity_service.config.sources import load_settings
from identity_service.jose.authority import Authority
from identity_service.telemetry import logs

_LIFETIME: Final = timedelta(days=1)
_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
_QUICK: Final[Mapping[str, Any]] = {
    "listen": "127.0.0.1:0",
    "argon2_time_cost": 1,
    "argon2_memory_kib": 64,
    "argon2_parallelism": 1,
    "watch_heartbeat": timedelta(milliseconds=100),
}


@contextmanager
def service(*, tls: bool = False, settings: Mapping[str, Any] | None = None) -> Iterator[ServiceUnderTest]:
    """Run a service in this process until the block ends.

    Args:
        tls: whether to serve with TLS; see `identity_client.testing.service_process`.
        settings: settings of the service by name.

    Raises ConfigurationError if a setting is not valid.
    """
    if not structlog.is_configured():  # otherwise the program under test has configured its log
        logs.configure("error", "json")
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="identity-")))
        files = _write_certificates(folder) if tls else {}
        own = {"store": f"sqlite:///{folder}/identity.db", "master_key": secrets.token_urlsafe(32)}
        found = load_settings(
            {**_QUICK, **own, **files, **(settings or {})}, config_file=Path(os.devnull), environ={}
        ).settings
        with open_store_admin(found) as store_admin:
            admin = store_admin.initialise()
        running = Service(found)
        port = running.start()
        cleanup.callback(running.stop)
        under_test = ServiceUnderTest(
            target=f"127.0.0.1:{port}",
            issuer=found.issuer,
            ca_file=folder / "ca.pem" if tls else None,
            admin_client_id=admin.client_id,
            admin_client_secret=admin.client_secret.reveal(),
        )
        cleanup.callback(under_test.close)
        yield under_test


def _write_certificates(folder: Path) -> dict[str, Any]:
    """Write an authority's certificate and a server's; return the settings that name them."""
    authority = Authority("identity-service tests", lifetime=_LIFETIME)
    pair = authority.issue("server", names=_HOSTS, lifetime=_LIFETIME, server=True)
    (folder / "ca.pem").write_bytes(authority.certificate)
    (folder / "server.pem").write_bytes(pair.certificate)
    key = folder / "server.key"
    key.touch(mode=0o600)
    key.write_bytes(pair.key)
    return {"tls_certificate": folder / "server.pem", "tls_key": key}
