"""Certificate authorities and bearer tokens of key servers: which server gets which, and faulty files."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from urllib3.util import parse_url

from identity_service.adapters.remote_keys.documents import FetchError
from identity_service.adapters.remote_keys.fetching import HttpsFetcher
from identity_service.adapters.remote_keys.servers import KeyServer, KeyServers
from identity_service.domain.errors import ConfigurationError
from tests.issuer_server import IssuerServer
from tests.tls import Certifier

SECRET = "a-token.of_the~pod+/="


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f" {SECRET}\n")
    return path


@pytest.fixture
def issuer() -> Iterator[IssuerServer]:
    with IssuerServer(body=b"the keys") as issuer:
        yield issuer


def with_token(url: str, path: Path) -> KeyServers:
    return KeyServers(servers=[KeyServer(url=url, token_file=path)])


def test_the_token_of_a_server_is_sent_to_it(issuer: IssuerServer, token_file: Path) -> None:
    fetch = HttpsFetcher(with_token(issuer.origin, token_file), max_bytes=100)

    fetch(issuer.url)
    token_file.write_text("another")
    fetch(f"{issuer.origin}/elsewhere?x=1")

    assert [seen["authorization"] for seen in issuer.seen_headers] == [f"Bearer {SECRET}", "Bearer another"]


def test_it_follows_no_redirect(issuer: IssuerServer, token_file: Path) -> None:
    with IssuerServer() as elsewhere:
        issuer.status, issuer.headers = 307, {"Location": elsewhere.url}
        with pytest.raises(FetchError, match="307"):
            HttpsFetcher(with_token(issuer.origin, token_file), max_bytes=100)(issuer.url)
        assert elsewhere.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "https://keys.example",
        "https://KEYS.example/",
        "https://keys.example:443/openid/v1/jwks",
        "https://Keys.Example/x?y=z",
    ],
)
def test_a_server_is_known_by_scheme_host_and_port(url: str, token_file: Path) -> None:
    for named in ("https://keys.example", "https://KEYS.example:443", "https://keys.example/path"):
        assert with_token(named, token_file).headers_for(parse_url(url))


@pytest.mark.parametrize(
    "url",
    [
        "http://keys.example",
        "https://keys.example:8443",
        "https://keys.example.other/keys",
        "https://other/https://keys.example",
        "https://other?keys.example",
        "https://xn--keys.example",
        "https://keys.example@other/keys",
        "https://keys.example:443@other/keys",
        "https://other\\@keys.example.evil/",
    ],
)
def test_no_other_server_gets_its_token(url: str, token_file: Path) -> None:
    assert with_token("https://keys.example", token_file).headers_for(parse_url(url)) == {}


@pytest.mark.parametrize(
    "content", ["", "\n", "two words", "a\nb", "a\r\nX-Evil: 1", "ä", "a\x00b", "x" * 20_000]
)
def test_a_malformed_token_is_refused_without_being_shown(content: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(content)

    with pytest.raises(ConfigurationError, match=r"token_file of https://keys\.example") as refused:
        with_token("https://keys.example", path)
    assert len(content.strip()) < 2 or content.strip() not in str(refused.value)


def test_a_token_file_that_was_removed_is_named_in_the_error(issuer: IssuerServer, token_file: Path) -> None:
    fetch = HttpsFetcher(with_token(issuer.origin, token_file), max_bytes=100)
    token_file.unlink()

    with pytest.raises(
        FetchError, match=f"token_file of {issuer.origin}: {token_file} cannot be read: No such"
    ):
        fetch(issuer.url)
    assert issuer.requests == []


def test_a_server_that_refuses_the_token_is_not_reported_as_requiring_one(
    issuer: IssuerServer, token_file: Path
) -> None:
    issuer.status = 403

    with pytest.raises(FetchError, match="status 403") as refused:
        HttpsFetcher(with_token(issuer.origin, token_file), max_bytes=100)(issuer.url)
    assert "token_file" not in str(refused.value)


def test_a_pipe_in_place_of_an_authority_blocks_no_caller(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ca.pem")

    with pytest.raises(ConfigurationError, match="not a regular file"):
        KeyServers(tmp_path / "ca.pem")


def test_a_pipe_in_place_of_a_token_blocks_no_caller(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token")

    with pytest.raises(ConfigurationError, match="not a regular file"):
        with_token("https://keys.example", tmp_path / "token")


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_ca_file_without_a_certificate_is_refused_at_start(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)

    with pytest.raises(ConfigurationError, match=f"ca_file of https://keys.example: {path} cannot be read: "):
        KeyServers(servers=[KeyServer(url="https://keys.example", ca_file=path)])
    with pytest.raises(ConfigurationError, match=f"issuer_ca_file: {path} cannot be read: "):
        KeyServers(path)


def test_the_authority_of_a_server_is_in_place_of_all_others(tmp_path: Path) -> None:
    one, two = Certifier(tmp_path / "one"), Certifier(tmp_path / "two", "other")
    servers = KeyServers(one.file, [KeyServer(url="https://two.example", ca_file=two.file)])

    def believed(url: str) -> set[bytes]:
        return set(servers.tls_for(parse_url(url)).get_ca_certs(binary_form=True))

    both = believed("https://one.example"), believed("https://two.example")
    assert [len(each) for each in both] == [1, 1]
    assert both[0] != both[1]
