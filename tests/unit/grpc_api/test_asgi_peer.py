"""The peer of a call and its certificate, as the proxy in front of the service forwards them."""

from pathlib import Path
from urllib.parse import quote

import pytest

from identity_service.grpc_api.asgi.context import AsgiContext
from identity_service.grpc_api.calls import certificate_of
from identity_service.transport.quotas import endpoint_of
from tests.tls import Certifier, Holder

SPIFFE = "spiffe://example.org/reports"


@pytest.fixture
def holder(tmp_path: Path) -> Holder:
    return Certifier(tmp_path).client("reports", SPIFFE, "reports.example.org")


def forwarded(holder: Holder) -> bytes:
    pem = holder.certificate_file.read_text()
    return f'Hash=00;Cert="{quote(pem, safe="")}"'.encode()


def context(header: bytes, scheme: str = "https", host: str = "127.0.0.1") -> AsgiContext:
    headers = [(b"x-forwarded-client-cert", header)]
    return AsgiContext({"scheme": scheme, "headers": headers, "client": (host, 4711)})


def test_a_certificate_is_the_one_that_was_shown(holder: Holder) -> None:
    found = certificate_of(context(forwarded(holder)))

    assert found is not None
    assert found.sha256 == holder.sha256
    assert found.names == {holder.thumbprint, SPIFFE, "dns:reports.example.org"}


def test_names_beside_the_certificate_count_for_nothing(holder: Holder) -> None:
    """The header does not quote the names, so a client that chooses its name could forge another one."""
    found = certificate_of(context(forwarded(holder) + b";URI=spiffe://example.org/admin;DNS=admin"))

    assert found is not None
    assert found.names == {holder.thumbprint, SPIFFE, "dns:reports.example.org"}


@pytest.mark.parametrize("header", [b"", b"Hash=00", b'Cert=""', b'XCert="abc"', b'Subject="a;Cert="'])
def test_a_header_without_a_certificate_gives_none(header: bytes) -> None:
    assert certificate_of(context(header)) is None


def test_a_certificate_on_a_plain_text_connection_is_ignored(holder: Holder) -> None:
    assert certificate_of(context(forwarded(holder), scheme="http")) is None


@pytest.mark.parametrize(("host", "peer"), [("127.0.0.1", "127.0.0.1:4711"), ("::1", "[::1]:4711")])
def test_the_peer_has_the_same_form_as_with_grpcio(host: str, peer: str) -> None:
    assert endpoint_of(context(b"", host=host).peer()) == peer
