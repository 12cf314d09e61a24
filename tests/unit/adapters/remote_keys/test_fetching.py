"""Fetching a document by HTTP: one GET, bounded in size and time, to the configured server alone."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from identity_service.adapters.remote_keys.documents import FetchError
from identity_service.adapters.remote_keys.fetching import HttpsFetcher
from identity_service.adapters.remote_keys.servers import KeyServer, KeyServers
from identity_service.domain.errors import ConfigurationError
from tests.issuer_server import IssuerServer
from tests.tls import Certifier


@pytest.fixture
def issuer() -> Iterator[IssuerServer]:
    with IssuerServer(body=b"the keys") as issuer:
        yield issuer


@pytest.fixture
def fetch() -> HttpsFetcher:
    return HttpsFetcher(KeyServers(), max_bytes=1000)


def test_a_document_is_fetched(fetch: HttpsFetcher, issuer: IssuerServer) -> None:
    document = fetch(issuer.url)

    assert (document.body, document.max_age) == (b"the keys", None)
    assert issuer.requests == ["/keys"]


@pytest.mark.parametrize(
    ("said", "max_age"),
    [
        ("max-age=60", 60),
        ("public, Max-Age=3600, must-revalidate", 3600),
        ('max-age="7"', 7),
        ("s-maxage=60", None),
        ("max-age=-1", None),
        ("max-age=x", None),
        ("no-store", 0),
        ("no-cache, max-age=60", 0),
    ],
)
def test_the_time_that_a_document_may_be_cached_is_read(
    fetch: HttpsFetcher, issuer: IssuerServer, said: str, max_age: int | None
) -> None:
    issuer.headers = {"Cache-Control": said}

    assert fetch(issuer.url).max_age == (None if max_age is None else timedelta(seconds=max_age))


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 404, 500, 503])
def test_any_other_status_is_no_document(fetch: HttpsFetcher, issuer: IssuerServer, status: int) -> None:
    with IssuerServer() as elsewhere:
        issuer.status, issuer.headers = status, {"Location": elsewhere.url}

        with pytest.raises(FetchError, match=str(status)):
            fetch(issuer.url)
        assert elsewhere.requests == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_requires_a_token_is_recognised(
    fetch: HttpsFetcher, issuer: IssuerServer, status: int
) -> None:
    issuer.status = status

    with pytest.raises(FetchError, match=f"status {status}; set a token_file for it in jwks_servers"):
        fetch(issuer.url)


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_refuses_the_token_names_its_file(
    issuer: IssuerServer, tmp_path: Path, status: int
) -> None:
    issuer.status = status
    token_file = tmp_path / "token"
    token_file.write_text("an.old.token")
    servers = KeyServers(servers=[KeyServer(url=issuer.origin, token_file=token_file)])

    with pytest.raises(FetchError, match=f"status {status}; replace the token in {token_file}") as refused:
        HttpsFetcher(servers, max_bytes=1000)(issuer.url)
    assert "an.old.token" not in str(refused.value)
    assert "set a token_file" not in str(refused.value)


def test_a_document_that_is_too_long_is_not_read_to_its_end(
    fetch: HttpsFetcher, issuer: IssuerServer
) -> None:
    issuer.body = b"x" * 1000
    assert len(fetch(issuer.url).body) == 1000

    issuer.body = b"x" * 1001
    with pytest.raises(FetchError, match="longer than 1000 bytes"):
        fetch(issuer.url)


def test_a_packed_answer_is_not_unpacked(fetch: HttpsFetcher, issuer: IssuerServer) -> None:
    issuer.headers = {"Content-Encoding": "gzip"}

    assert fetch(issuer.url).body == b"the keys"
    assert issuer.seen_headers[0]["accept-encoding"] == "identity"


def test_no_proxy_of_the_environment_is_used(
    fetch: HttpsFetcher, issuer: IssuerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert fetch(issuer.url).body == b"the keys"


def test_a_refused_connection_is_reported_without_the_url(fetch: HttpsFetcher) -> None:
    with pytest.raises(FetchError, match="cannot be reached") as failed:
        fetch("http://127.0.0.1:1/keys?secret=s3cret")

    assert "s3cret" not in str(failed.value)
    assert failed.value.__cause__ is None


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Yield the URL of a server that sends this answer to one request."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/keys"
        thread.join()


def test_an_answer_that_is_not_http_is_reported(fetch: HttpsFetcher) -> None:
    with (
        answering(lambda connection: connection.sendall(b"220 ready\r\n\r\n")) as url,
        pytest.raises(FetchError, match="cannot be reached"),
    ):
        fetch(url)


@pytest.mark.parametrize(
    "begin",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Odd: ",
        b"HTTP/1.1 200 ",
        b"",
    ],
    ids=["body", "body without a length", "header", "status line", "from the start"],
)
def test_an_answer_that_trickles_in_is_not_waited_for(begin: bytes) -> None:
    given_up = threading.Event()

    def trickle(connection: socket.socket) -> None:
        connection.sendall(begin)
        with suppress(OSError):
            while not given_up.wait(0.01):
                connection.sendall(b"x")

    with answering(trickle) as url:
        with pytest.raises(FetchError, match=r"longer than 0\.1 seconds"):
            HttpsFetcher(KeyServers(), max_bytes=1000, max_seconds=0.1)(url)
        given_up.set()


class TestOverTls:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        """Return a PEM file with a self-signed certificate for 127.0.0.1 and its private key."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an issuer")])
        now = datetime.now(UTC)
        address = x509.IPAddress(ip_address("127.0.0.1"))
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        path = tmp_path / "issuer.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + made.public_bytes(serialization.Encoding.PEM)
        )
        return path

    def test_the_certificate_must_come_from_a_trusted_authority(
        self, fetch: HttpsFetcher, certificate: Path
    ) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        with IssuerServer(body=b"the keys", tls=tls) as issuer:
            assert HttpsFetcher(KeyServers(certificate), max_bytes=1000)(issuer.url).body == b"the keys"
            with pytest.raises(FetchError, match="self-signed certificate; set ca_file for this server in"):
                fetch(issuer.url)

    def test_an_unknown_authority_comes_with_the_setting_that_names_it(
        self, fetch: HttpsFetcher, tmp_path: Path
    ) -> None:
        one, two = Certifier(tmp_path / "one"), Certifier(tmp_path / "two")
        holder = one.server()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(holder.certificate_file, holder.key_file)
        with IssuerServer(body=b"the keys", tls=tls) as issuer:
            named = KeyServers(servers=[KeyServer(url=issuer.origin, ca_file=two.file)])
            for servers, cure in (
                (KeyServers(), "; set ca_file for this server in jwks_servers$"),
                (KeyServers(two.file), f"; set ca_file for this server .* its authority into {two.file}$"),
                (named, f"; put the authority of its certificate into {two.file}$"),
            ):
                with pytest.raises(FetchError, match=f"unable to get local issuer certificate{cure}"):
                    HttpsFetcher(servers, max_bytes=1000)(issuer.url)

    def test_a_certificate_that_has_expired_is_not_cured_by_another_authority(self, tmp_path: Path) -> None:
        certifier = Certifier(tmp_path / "tls")
        holder = certifier.server(lifetime=-timedelta(minutes=1))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(holder.certificate_file, holder.key_file)
        with (
            IssuerServer(body=b"the keys", tls=tls) as issuer,
            pytest.raises(FetchError, match=r"certificate has expired$"),
        ):
            HttpsFetcher(KeyServers(certifier.file), max_bytes=1000)(issuer.url)

    def test_a_certificate_in_the_ca_file_is_trusted_without_its_root(self, tmp_path: Path) -> None:
        """Go, curl with `--cacert` and Python 3.13 trust an intermediate certificate in the same way."""
        holder = Certifier(tmp_path / "root").server()
        own = tmp_path / "own.pem"
        own.write_bytes(holder.certificate_file.read_bytes())
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(holder.certificate_file, holder.key_file)
        with IssuerServer(body=b"the keys", tls=tls) as issuer:
            assert HttpsFetcher(KeyServers(own), max_bytes=1000)(issuer.url).body == b"the keys"

    @pytest.mark.parametrize("content", [None, "no certificate"])
    def test_a_file_that_holds_no_authority_is_found_at_start(
        self, tmp_path: Path, content: str | None
    ) -> None:
        path = tmp_path / "ca.pem"
        if content is not None:
            path.write_text(content)

        with pytest.raises(ConfigurationError, match="issuer_ca_file"):
            KeyServers(path)
