"""A service that serves gRPC-Web to two origins, on both engines, and the libraries of the client."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.http.conftest import ANY_PORT
from tests.http.libraries.programs import install_npm, require
from tests.http.web.grpc_web import ORIGIN, WebClient
from tests.ports import reserve_port
from tests.rpc.conftest import ENVOY, settings_for_tests
from tests.rpc.engines import EnvoyHost

PAGE_PORT = reserve_port()
PAGE_ORIGIN = f"http://127.0.0.1:{PAGE_PORT}"
"""The origin of the example page. Its port is reserved early, because the settings of the service name it."""
EXAMPLE = Path(__file__).parents[3] / "examples" / "web"


@pytest.fixture(scope="session")
def envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyHost]:
    """An Envoy that serves HTTP and gRPC-Web on the port of gRPC, for all tests of this folder."""
    settings = settings_for_tests(engine=ENVOY, http_listen=ANY_PORT, web_origins=(ORIGIN, PAGE_ORIGIN))
    with closing(EnvoyHost(settings, tmp_path_factory.mktemp("envoy"))) as host:
        yield host


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the npm libraries that the lock file of `examples/web` names."""
    require("node", "npm")
    return install_npm(EXAMPLE, tmp_path_factory.mktemp("web"))


@pytest.fixture
def client(libraries: Path) -> WebClient:
    program = libraries / "client.mjs"
    if not program.exists():
        program.write_bytes((Path(__file__).parent / "client.mjs").read_bytes())
    return WebClient(folder=libraries)
