"""The environment variables that configure a client."""

from pathlib import Path

import pytest

from identity_client import TlsOptions
from identity_client.environment import Environment

SECRET = {"IDENTITY_CLIENT_ID": "reports", "IDENTITY_CLIENT_SECRET": "s3cret"}


def test_an_empty_environment_means_the_service_of_make_run() -> None:
    found = Environment.read({"IDENTITY_TARGET": ""})

    assert (found.target, found.issuers) == ("127.0.0.1:50051", ("identity-service",))
    assert found.options().tls is None
    assert not found.has_sign_in
    with pytest.raises(ValueError, match="set one of IDENTITY_CLIENT_SECRET, "):
        found.credential()


def test_several_issuers_are_separated_by_commas() -> None:
    assert Environment.read({"IDENTITY_ISSUER": "https://a, https://b,"}).issuers == (
        "https://a",
        "https://b",
    )


def test_the_secret_becomes_a_credential_and_shows_in_no_repr() -> None:
    found = Environment.read(SECRET)

    named = found.credential()

    sent = named.make().client_secret
    assert (sent.client_id, sent.client_secret, named.once) == ("reports", "s3cret", False)
    assert "s3cret" not in repr(found) + repr(named)


def test_a_file_is_read_again_for_each_credential(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    named = Environment.read(
        {"IDENTITY_CLIENT_ID": "reports", "IDENTITY_CLIENT_SECRET_FILE": str(path)}
    ).credential()

    sent = []
    for text in ("one\n", "two\n"):
        path.write_text(text)
        sent.append(named.make().client_secret.client_secret)

    assert sent == ["one", "two"]


def test_a_file_that_is_no_text_is_named_and_its_content_is_not(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"s3cret\xff")

    with pytest.raises(ValueError, match="is not a text file") as error:
        Environment.read({"IDENTITY_FEDERATED_TOKEN_FILE": str(path)}).credential().make()

    assert str(path) in str(error.value)
    assert error.value.__cause__ is None
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            SECRET | {"IDENTITY_FEDERATED_TOKEN_FILE": "t"},
            "set only one of IDENTITY_CLIENT_SECRET and IDENTITY_FEDERATED_TOKEN_FILE",
        ),
        (
            {"IDENTITY_CLIENT_SECRET": "s3cret"},
            "set IDENTITY_CLIENT_ID to the client of IDENTITY_CLIENT_SECRET",
        ),
        ({"IDENTITY_CERT": "c.pem"}, "set IDENTITY_CERT and IDENTITY_KEY together"),
        (
            {"IDENTITY_CA": "a", "IDENTITY_CA_FILE": "b"},
            "IDENTITY_CA and IDENTITY_CA_FILE are the same setting",
        ),
        ({"IDENTITY_TLS": "maybe"}, "IDENTITY_TLS=maybe"),
        ({"IDENTITY_TARGET": "https://id.example:443"}, "IDENTITY_TARGET is a URL: set it to host:port"),
    ],
)
def test_variables_that_are_malformed_or_contradict_each_other_are_named(
    variables: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Environment.read(variables)
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("ca", ["IDENTITY_CA", "IDENTITY_CA_FILE"])
def test_the_authorities_and_the_certificate_make_the_options_of_tls(ca: str) -> None:
    found = Environment.read({ca: "ca.pem", "IDENTITY_CERT": "c.pem", "IDENTITY_KEY": "k.pem"})

    assert found.options().tls == TlsOptions(
        ca_file=Path("ca.pem"), certificate_file=Path("c.pem"), key_file=Path("k.pem")
    )
    assert found.credential().make().HasField("client_certificate")


@pytest.mark.parametrize(
    ("variables", "tls", "plaintext"),
    [
        ({"IDENTITY_TARGET": "reports:443"}, TlsOptions(), False),
        ({"IDENTITY_TARGET": "reports:443", "IDENTITY_ALLOW_PLAINTEXT": "1"}, None, True),
        ({"IDENTITY_TARGET": "reports:443", "IDENTITY_ALLOW_PLAINTEXT": "0"}, TlsOptions(), False),
        (
            {"IDENTITY_TARGET": "reports:443", "IDENTITY_ALLOW_PLAINTEXT": "1", "IDENTITY_CA": "ca.pem"},
            TlsOptions(ca_file=Path("ca.pem")),
            True,
        ),
        ({"IDENTITY_TLS": "1"}, TlsOptions(), False),
    ],
)
def test_a_connection_to_another_machine_uses_tls_unless_plaintext_is_allowed(
    variables: dict[str, str], tls: TlsOptions | None, *, plaintext: bool
) -> None:
    found = Environment.read(variables).options()

    assert (found.tls, found.allow_plaintext) == (tls, plaintext)


def test_a_program_may_allow_plaintext_itself() -> None:
    found = Environment.read({"IDENTITY_TARGET": "reports:443"}).options(allow_plaintext=True)

    assert (found.tls, found.allow_plaintext) == (None, True)
