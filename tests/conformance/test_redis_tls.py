"""Redis over TLS with a CA of the test: a peer without a trusted certificate is refused on both sides."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from identity_service.domain.errors import ConfigurationError, StoreUnavailableError
from identity_service.domain.ids import new_epoch
from identity_service.storage.redis import RedisStore
from identity_service.storage.redis.client.server_checks import Demands
from tests.conformance import samples
from tests.redis_tls import Certificate, RedisTls, skipped_without_tls
from tests.redis_topology import TunedServer


class Secure:
    """A Redis server that speaks TLS, with a client certificate that it accepts."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.tls = RedisTls(folder / "tls", *names)
        self.server = TunedServer(folder / "data", tls=self.tls)

    def url(self, *, authority: Path | None = None, client: Certificate | None = None) -> str:
        query = self.tls.query(authority=authority, client=client)
        return f"rediss://127.0.0.1:{self.server.public_port}/0{query}"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    secure = Secure(tmp_path_factory.mktemp("tls"))
    with skipped_without_tls():
        secure.server.start()
    yield secure
    secure.server.stop()


def test_the_store_works_over_tls_with_a_client_certificate(secure: Secure) -> None:
    secure.server.flush()
    store = RedisStore.connect(secure.url(), demands=Demands(durability="local"))
    store.initialise(new_epoch())

    samples.deny(store, 3)

    assert store.log.head().position == 3
    store.close()


def test_a_server_of_another_authority_is_not_believed(secure: Secure, tmp_path: Path) -> None:
    stranger = RedisTls(tmp_path / "stranger")

    with pytest.raises(StoreUnavailableError, match="ConnectionError"):
        RedisStore.connect(secure.url(authority=stranger.authority))


def test_a_client_of_another_authority_is_not_let_in(secure: Secure, tmp_path: Path) -> None:
    stranger = RedisTls(tmp_path / "stranger")

    with pytest.raises(StoreUnavailableError):
        RedisStore.connect(secure.url(client=stranger.client))


@pytest.mark.usefixtures("secure")  # where the server has no TLS there is nothing to see
def test_a_server_whose_certificate_names_another_host_is_refused(tmp_path: Path) -> None:
    elsewhere = Secure(tmp_path, "192.0.2.1")
    elsewhere.server.start()
    try:
        with pytest.raises(StoreUnavailableError, match="ConnectionError"):
            RedisStore.connect(elsewhere.url())
    finally:
        elsewhere.server.stop()


def test_plain_text_is_refused_on_a_port_with_tls(secure: Secure) -> None:
    with pytest.raises(StoreUnavailableError):
        RedisStore.connect(f"redis://127.0.0.1:{secure.server.public_port}/0", timeout=2.0)


def test_a_missing_file_is_named_with_its_option(secure: Secure) -> None:
    with pytest.raises(ConfigurationError, match="ssl_ca_certs names no file"):
        RedisStore.connect(secure.url(authority=Path("/no/such/ca.pem")))
