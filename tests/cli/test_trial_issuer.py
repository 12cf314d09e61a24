"""The issuer of a trial service (`identity serve --dev`) is the URL of its HTTP listener."""

from pathlib import Path

import pytest

from identity_service.cli import dev
from identity_service.config.sources import load_settings
from tests.ports import reserve_address


def trial(**changes: str) -> dict[str, object]:
    """Return the settings that `--dev` adds."""
    environ = {f"IDENTITY_{name.upper()}": value for name, value in changes.items()}
    return dev.flags(load_settings(environ=environ))


@pytest.fixture
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_folder")
def test_a_trial_has_the_url_of_its_http_listener_and_its_former_name() -> None:
    place = reserve_address()
    found = trial(http_listen=place, accepted_issuers="older")

    assert (found["http_listen"], found["issuer"]) == (place, f"http://{place}")
    assert found["accepted_issuers"] == ("older", "identity-service")


@pytest.mark.usefixtures("_folder")
def test_a_trial_on_a_free_port_has_the_url_of_that_port() -> None:
    found = trial(http_listen="127.0.0.1:0")

    assert found["issuer"] == f"http://{found['http_listen']}"
    assert not str(found["http_listen"]).endswith(":0")
    assert "listen" not in found


@pytest.mark.usefixtures("_folder")
def test_with_envoy_one_free_port_serves_both() -> None:
    found = trial(engine="envoy", listen="127.0.0.1:0", http_listen="127.0.0.1:0")

    assert found["listen"] == found["http_listen"]


@pytest.mark.usefixtures("_folder")
@pytest.mark.parametrize(
    ("host", "url"),
    [("[::]", "http://[::1]"), ("[::1]", "http://[::1]"), ("LOCALHOST", "http://localhost")],
)
def test_the_url_of_a_trial_is_one_of_this_machine(host: str, url: str) -> None:
    port = reserve_address().rpartition(":")[2]

    assert trial(http_listen=f"{host}:{port}", insecure="true")["issuer"] == f"{url}:{port}"


@pytest.mark.usefixtures("_folder")
def test_the_url_of_a_trial_with_tls_is_https() -> None:
    place = reserve_address()
    found = trial(http_listen=place, tls_certificate="server.pem", tls_key="server.key")

    assert found["issuer"] == f"https://{place}"


@pytest.mark.usefixtures("_folder")
@pytest.mark.parametrize("changes", [{"issuer": "https://identity.example"}, {"http_listen": ""}])
def test_a_name_that_the_operator_chose_and_a_trial_without_http_keep_their_issuer(
    changes: dict[str, str],
) -> None:
    found = trial(**{"http_listen": reserve_address()} | changes)

    assert {"issuer", "accepted_issuers"} & found.keys() == set()
