"""A service with TLS at a URL that is its issuer name. Libraries are given nothing else to find it."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from identity_service.storage.sqlite import SqliteStore
from tests.http.libraries.provider import Provider
from tests.ports import reserve_address, reserve_port
from tests.rpc.conftest import marked_settings, running, settings_for_tests
from tests.tls import Certifier


@pytest.fixture(scope="session")
def certifier(tmp_path_factory: pytest.TempPathFactory) -> Certifier:
    """One certificate authority for all services, so that a library that imports it does so only once."""
    return Certifier(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def provider(
    request: pytest.FixtureRequest, certifier: Certifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Provider]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certifier.file))  # also for sessions: requests prefers it
    port = reserve_port()
    issuer = f"https://localhost:{port}"
    mutual = reserve_port()
    changes = certifier.server().settings(
        issuer=issuer,
        tls_client_ca=certifier.file,
        mtls_listen=reserve_address(),
        http_listen=f"127.0.0.1:{port}",
        http_mtls_listen=f"127.0.0.1:{mutual}",
        http_mtls_url=f"https://localhost:{mutual}",
    )
    settings = settings_for_tests(**(changes | marked_settings(request)))
    with running(settings, lambda clock: SqliteStore.open(str(tmp_path / "id.db"), clock=clock)) as world:
        world.new_user()
        with certifier.channel(world.target) as channel:
            secure = dataclasses.replace(world, channel=channel)
            yield Provider(world=secure, issuer=issuer, certifier=certifier)
