"""The setting `issuer` when clients find the service by it: bad values are refused by each command.

These are `serve`, `config check` and `doctor`.
"""

from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import Run

HTTP = "127.0.0.1:8080"
URL = "http://127.0.0.1:8080"


@pytest.mark.parametrize("command", [("config", "check"), ("serve",)])
@pytest.mark.parametrize(
    ("issuer", "advice"),
    [
        ("identity-service", "list the name that it has now in `accepted_issuers`"),
        ("https://Identity.example/", "write https://identity.example/"),
        (URL, "may be an http URL with --dev only"),
    ],
)
def test_http_needs_a_url_by_which_clients_find_the_service(
    run: Run, command: tuple[str, ...], issuer: str, advice: str
) -> None:
    run("init")

    refused = run(*command, code=1, IDENTITY_HTTP_LISTEN=HTTP, IDENTITY_ISSUER=issuer)

    assert "issuer: " in refused.stderr
    assert advice in refused.stderr


def test_without_http_the_issuer_is_any_name(run: Run) -> None:
    run("config", "check", IDENTITY_ISSUER="any name")


def test_config_check_accepts_such_a_url(run: Run) -> None:
    run("config", "check", IDENTITY_HTTP_LISTEN=HTTP, IDENTITY_ISSUER="https://identity.example")


@pytest.mark.parametrize(("issuer", "result"), [("https://identity.example", "ok"), (URL, "FAIL")])
def test_the_doctor_says_whether_clients_find_the_service(
    run: Run, run_json: Callable[..., Any], issuer: str, result: str
) -> None:
    run("init")

    report = run_json("doctor", code=int(result == "FAIL"), IDENTITY_HTTP_LISTEN=HTTP, IDENTITY_ISSUER=issuer)

    (found,) = (line for line in report if line["check"] == "issuer name")
    assert found["result"] == result
    assert found["advice"].startswith(issuer if result == "ok" else "issuer: may be an http URL")
