"""TLS of HTTP: it uses the certificate of gRPC, which can be replaced while the service runs.

On the Envoy engine, HTTP and gRPC can share a port.
"""

import http.client
import ssl
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.http.conftest import ANY_PORT, StartSite
from tests.http.site import Site
from tests.patience import PATIENCE, until
from tests.rpc.conftest import ENVOY, running_in_envoy, settings_for_tests
from tests.rpc.engines import EnvoyHost
from tests.rpc.envoy_inside import StoreAddress
from tests.tls import Certifier, handshake, replace


def certificate(site: Site) -> bytes:
    """Return the server certificate that a new connection gets, in DER."""
    host, port = site.address
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, port), timeout=PATIENCE))


def test_new_connections_see_a_certificate_that_was_replaced(start: StartSite, certifier: Certifier) -> None:
    site = start(**certifier.server().settings())
    before = certificate(site)

    after = certifier.server().der

    assert before != after
    assert certificate(site) == after


def test_a_connection_outlives_the_certificate_that_it_was_made_with(
    start: StartSite, certifier: Certifier
) -> None:
    world = start(**certifier.server().settings())
    site = Site(world.world, world.target, ssl.create_default_context(cafile=certifier.file))
    connection = site.connect()
    connection.request("GET", "/livez")
    connection.getresponse().read()

    certifier.server()
    certificate(site)
    connection.request("GET", "/livez")

    assert connection.getresponse().status == 200
    connection.close()


def test_files_that_do_not_match_leave_the_last_certificate_in_use(
    start: StartSite, certifier: Certifier
) -> None:
    server = certifier.server()
    site = start(**server.settings())
    before = certificate(site)

    replace(server.key_file, certifier.server("other").key_file.read_bytes())

    assert certificate(site) == before


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_it_does_not_speak_tls_1_1(start: StartSite, certifier: Certifier) -> None:
    site = start(**certifier.server().settings())

    with pytest.raises(OSError, match=r"EOF|reset|PROTOCOL_VERSION"):
        handshake(site.target, ssl.TLSVersion.TLSv1_1)


@pytest.mark.parametrize("shared", [True, False])
def test_envoy_serves_grpc_and_http_with_tls(certifier: Certifier, tmp_path: Path, *, shared: bool) -> None:
    """Envoy can serve gRPC and HTTP on one port, or each on a port of its own."""
    settings = settings_for_tests(
        engine=ENVOY,
        issuer="https://id.example",
        http_listen=ANY_PORT if shared else "localhost:0",
        **certifier.server().settings(),
    )
    store = StoreAddress(kind="sqlite", place=str(tmp_path / "identity.db"))
    with (
        closing(EnvoyHost(settings, tmp_path)) as host,
        running_in_envoy(host, settings, store, tmp_path) as world,
    ):
        site = Site(world, host.http_listen, ssl.create_default_context(cafile=certifier.file))
        at_grpc = Site(world, host.target, site.authority)
        with certifier.channel(host.target) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())

        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert site.get("/.well-known/jwks.json").json["keys"]
        assert (host.http_listen == host.target) is shared
        if not shared:
            with pytest.raises((OSError, http.client.HTTPException)):
                at_grpc.get("/livez")
            with certifier.channel(host.http_listen) as channel, pytest.raises(grpc.RpcError):
                health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)

        renewed = certifier.server().der
        until(lambda: certificate(site) == renewed)
