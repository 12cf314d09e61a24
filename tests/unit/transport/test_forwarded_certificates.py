"""Certificates that a proxy forwards in a header: both formats, and everything that must be ignored."""

import base64
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.origin import PeerCertificate
from identity_service.transport.client_certificates import certificate_in
from identity_service.transport.forwarded_certificates import CLIENT_CERT, ENVOYS, ForwardedCertificates
from identity_service.transport.quotas import Peers
from tests.tls import Certifier, Holder

SPIFFE = "spiffe://example.org/reports"
PROXY, STRANGER = "ipv4:192.0.2.1:5000", "ipv4:192.0.2.2:5000"
OWN = PeerCertificate(sha256=b"p" * 32)
"""The certificate of the connection itself."""


def rfc9440(holder: Holder) -> str:
    return f":{base64.b64encode(holder.der).decode()}:"


def pem_of(holder: Holder) -> str:
    return quote(holder.certificate_file.read_text(), safe="")


def element(holder: Holder) -> str:
    return f'By=spiffe://example.org/proxy;Hash={holder.sha256.hex()};Cert="{pem_of(holder)}"'


FORMS: dict[str, Callable[[Holder], str]] = {CLIENT_CERT: rfc9440, ENVOYS: element}


@pytest.fixture(scope="module")
def certifier(tmp_path_factory: pytest.TempPathFactory) -> Certifier:
    return Certifier(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def holder(certifier: Certifier) -> Holder:
    return certifier.client("reports", SPIFFE, "reports.example")


def find(header: str, *values: str | bytes, authorities: bytes | None = None) -> PeerCertificate | None:
    reader = ForwardedCertificates(header, lambda: authorities)
    return reader.find([("accept", "*/*"), *((header, value) for value in values)])


@pytest.mark.parametrize("header", FORMS)
def test_each_form_gives_the_certificate_and_its_names(header: str, holder: Holder) -> None:
    found = find(header, FORMS[header](holder))

    assert found is not None
    assert found.sha256 == holder.sha256
    assert found.names == {holder.thumbprint, SPIFFE, "dns:reports.example"}


@pytest.mark.parametrize("header", FORMS)
def test_only_the_chosen_header_is_read(header: str, holder: Holder) -> None:
    (other,) = FORMS.keys() - {header}

    assert ForwardedCertificates(other, lambda: None).find([(header, FORMS[header](holder))]) is None


@pytest.mark.parametrize("header", FORMS)
def test_of_several_values_none_is_believed(header: str, holder: Holder) -> None:
    value = FORMS[header](holder)

    assert find(header, value, value) is None
    assert find(header, "", value) is None
    assert find(header) is None
    assert find(header, value.encode()) is None


def test_the_last_element_counts(certifier: Certifier, holder: Holder) -> None:
    other = certifier.client("other", "other.example")

    found = find(ENVOYS, f"{element(other)},{element(holder)}")

    assert found is not None
    assert found.sha256 == holder.sha256
    assert find(ENVOYS, f"{element(holder)},Hash=00") is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        ",",
        "Hash=00",
        'Cert=""',
        'Cert="x"',
        'Cert="-----BEGIN%20CERTIFICATE-----"',
        "{element};URI=spiffe://example.org/x",
        "{element};DNS=x.example",
        '{element};Subject="CN=x"',
        '{element};URI=spiffe://example.org/x,Hash=00;Cert="{pem}"',
        'Cert="{pem}";Cert="{pem}"',
        'Cert="{pem}{pem}"',
        "Cert={pem}",
        "{element},",
        "x{element}",
        "{element}\n",
        "{element}é",
    ],
)
def test_elements_that_are_malformed_or_have_names_give_none(value: str, holder: Holder) -> None:
    """Names are not quoted, so a client's name could look like an element for another client."""
    written = value.replace("{element}", element(holder)).replace("{pem}", pem_of(holder))

    assert find(ENVOYS, written) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "::",
        ":AAAA:",
        "{b64}",
        ":{b64}",
        ":{b64}:;a=1",
        ":{b64}:, :{b64}:",
        ":{b64}AAAA:",
        ":{b64}\n:",
        ":é:",
    ],
)
def test_a_malformed_byte_sequence_gives_none(value: str, holder: Holder) -> None:
    written = value.replace("{b64}", base64.b64encode(holder.der).decode())

    assert find(CLIENT_CERT, written) is None


def test_a_certificate_with_bytes_behind_it_gives_none(holder: Holder) -> None:
    assert find(CLIENT_CERT, f":{base64.b64encode(holder.der + b'x').decode()}:") is None


@pytest.mark.parametrize("header", FORMS)
def test_a_certificate_of_a_version_that_does_not_exist_gives_none(
    header: str, certifier: Certifier, holder: Holder, tmp_path: Path
) -> None:
    version = bytes.fromhex("a003020102")
    assert version in holder.der, "version 3"
    pem = ssl.DER_cert_to_PEM_cert(holder.der.replace(version, bytes.fromhex("a003020103"), 1))
    forged = Holder(certificate_file=tmp_path / "c.pem", key_file=holder.key_file)
    forged.certificate_file.write_text(pem)

    assert find(header, FORMS[header](forged)) is None
    assert find(header, FORMS[header](forged), authorities=certifier.file.read_bytes()) is None
    assert certificate_in(pem.encode()) is None, "as a handshake shows it"


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda b: f":{base64.b64encode(b).decode()}:"))
def test_any_value_gives_none_and_raises_nothing(value: str) -> None:
    for header in FORMS:
        assert find(header, value) is None
        assert find(header, f'Cert="{quote(value, safe="")}"') is None


# The chain


@pytest.mark.parametrize("header", FORMS)
def test_a_certificate_of_the_client_authorities_is_believed(
    header: str, certifier: Certifier, holder: Holder, tmp_path: Path
) -> None:
    another = Certifier(tmp_path, "another").file.read_bytes()
    ours = certifier.file.read_bytes()

    assert find(header, FORMS[header](holder), authorities=another + ours) is not None
    assert find(header, FORMS[header](holder), authorities=another) is None


def test_a_certificate_that_a_handshake_would_refuse_is_not_believed(
    certifier: Certifier, tmp_path: Path
) -> None:
    namesake = Certifier(tmp_path)  # another key under the same name
    refused = [
        certifier.client("expired", SPIFFE, lifetime=timedelta(minutes=-5)),
        certifier.server("server", names=(SPIFFE,)),
        namesake.client("forged", SPIFFE),
    ]

    for holder in refused:
        assert find(CLIENT_CERT, rfc9440(holder), authorities=certifier.file.read_bytes()) is None
    assert find(CLIENT_CERT, rfc9440(refused[2]), authorities=namesake.file.read_bytes()) is not None


# The peer


def certificate_of(peer: str, *headers: tuple[str, str], believes: bool = True) -> PeerCertificate | None:
    forwarded = ForwardedCertificates(CLIENT_CERT, lambda: None) if believes else None
    return Peers((), ("192.0.2.1",), forwarded).certificate_of(peer, lambda: headers, lambda: OWN)


def test_only_a_trusted_proxy_is_believed(holder: Holder) -> None:
    header = (CLIENT_CERT, rfc9440(holder))
    believed = certificate_of(PROXY, header)

    assert believed is not None
    assert believed.sha256 == holder.sha256
    assert certificate_of(STRANGER, header) == OWN
    assert certificate_of("unix:", header) == OWN
    assert certificate_of(PROXY, header, believes=False) == OWN


@pytest.mark.parametrize("header", [(), ((CLIENT_CERT, ":AAAA:"),)])
def test_the_certificate_of_a_proxy_does_not_stand_for_that_of_its_client(
    header: tuple[tuple[str, str], ...],
) -> None:
    assert certificate_of(PROXY, *header) is None
