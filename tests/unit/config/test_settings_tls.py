"""The TLS settings: which combinations are refused, and which addresses the service may then listen on."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from identity_service.settings import Settings

PAIR = {"tls_certificate": Path("server.pem"), "tls_key": Path("server.key")}
AUTHORITIES = {**PAIR, "tls_client_ca": Path("ca.pem")}
HTTP = {**AUTHORITIES, "http_listen": "[::1]:1"}
PROXIED = {"trusted_proxies": "10.0.0.1", "client_certificate_header": "client-cert"}
MUTUAL = {**HTTP, "http_mtls_listen": "[::1]:2", "http_mtls_url": "https://mtls.example"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tls_certificate": Path("server.pem")}, "tls_certificate: set it together with tls_key"),
        ({"tls_key": Path("server.key")}, "tls_certificate: set it together with tls_key"),
        ({"tls_client_ca": Path("ca.pem")}, "tls_client_ca: needs tls_certificate"),
        ({**PAIR, "mtls_listen": "127.0.0.1:1"}, "mtls_listen: needs tls_client_ca"),
        ({**PAIR, "require_caller_auth": False}, "require_caller_auth: is always on with TLS"),
        ({**PAIR, "tls_client_ca": Path("ca.pem"), "mtls_listen": "nowhere"}, "must be host:port"),
        ({"listen": "0.0.0.0:50051"}, "set tls_certificate and tls_key"),
        ({"http_listen": "0.0.0.0:8080"}, "http_listen: is beyond loopback"),
        ({"http_listen": "https://127.0.0.1:8080"}, "must be host:port without a scheme"),
        ({"http_listen": "127.0.0.1:50051"}, "http_listen: only the engine envoy serves HTTP on the port"),
        (
            {**PAIR, "tls_client_ca": Path("ca.pem"), "mtls_listen": "[::1]:1", "http_listen": "[::1]:1"},
            "http_listen: is the address of mtls_listen",
        ),
        ({**MUTUAL, "http_listen": ""}, "http_mtls_listen: needs http_listen; set it"),
        ({**MUTUAL, "tls_client_ca": None}, "http_mtls_listen: needs tls_client_ca"),
        ({**MUTUAL, "http_mtls_listen": "8443"}, "must be host:port"),
        ({**MUTUAL, "http_mtls_listen": "[::1]:1"}, "http_mtls_listen: is the address of http_listen"),
        ({**MUTUAL, "listen": "[::1]:2"}, "http_mtls_listen: is the address of listen"),
        ({**MUTUAL, "mtls_listen": "[::1]:2"}, "http_mtls_listen: is the address of mtls_listen"),
        ({**MUTUAL, "http_mtls_url": ""}, "http_mtls_url: set it to the https URL"),
        (
            {**HTTP, "http_mtls_url": "https://mtls.example"},
            "http_mtls_url: needs http_mtls_listen, or client_certificate_header",
        ),
        (
            {"client_certificate_header": "client-cert"},
            "client_certificate_header: needs trusted_proxies; list the addresses",
        ),
        ({**PROXIED, "client_certificate_header": "x-client-cert"}, "client_certificate_header"),
        (
            {**PROXIED, "client_certificate_header": "x-forwarded-client-cert", "engine": "envoy"},
            "client_certificate_header: the engine envoy removes this header; choose client-cert",
        ),
        ({**MUTUAL, "http_mtls_url": "http://mtls.example"}, "http_mtls_url: must be an https URL"),
        ({**MUTUAL, "http_mtls_url": "https://MTLS.example"}, "http_mtls_url: .* write https://mtls.example"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings(**values)


def test_with_tls_it_may_listen_beyond_loopback() -> None:
    assert Settings(listen="0.0.0.0:50051", **PAIR).listen == "0.0.0.0:50051"


def test_http_may_have_a_listener_that_requires_certificates() -> None:
    assert Settings(**MUTUAL).http_mtls_listen == "[::1]:2"


def test_a_proxy_may_have_the_url_for_certificates() -> None:
    assert Settings(http_mtls_url="https://mtls.example", **PROXIED).http_mtls_listen == ""


def test_with_tls_it_may_serve_http_beyond_loopback() -> None:
    assert Settings(http_listen="0.0.0.0:8443", **PAIR).http_listen == "0.0.0.0:8443"


@pytest.mark.parametrize(
    ("values", "shared"),
    [
        ({"engine": "envoy", "http_listen": "127.0.0.1:50051"}, True),
        ({"engine": "envoy", "http_listen": "127.0.0.1:8080"}, False),
        ({"engine": "envoy"}, False),
        ({"listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0"}, False),
    ],
)
def test_only_envoy_serves_grpc_and_http_on_one_port(values: dict[str, object], shared: bool) -> None:
    assert Settings(**values).shares_port is shared


def test_metrics_stay_on_loopback_since_they_have_no_tls() -> None:
    with pytest.raises(ValidationError, match="metrics_listen: is beyond loopback"):
        Settings(metrics_listen="0.0.0.0:9090", **PAIR)


@pytest.mark.parametrize(
    ("values", "on"),
    [
        ({}, False),
        ({"require_caller_auth": True}, True),
        (PAIR, True),
        ({"require_caller_auth": False}, False),
    ],
)
def test_callers_must_authenticate_with_tls_and_if_the_setting_asks_for_it(
    values: dict[str, object], on: bool
) -> None:
    assert Settings(**values).callers_prove_themselves is on
