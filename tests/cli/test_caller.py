"""The credentials of commands: from the environment, a file or a prompt, never from the command line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from identity_service.cli.app import app
from identity_service.cli.output import say_trimmed
from identity_service.process.exit_codes import Exit
from identity_service.storage.sqlite import SqliteStore
from tests.cli.conftest import PASSWORD, Run, Served
from tests.cli.watching import watching
from tests.patience import PATIENCE
from tests.ports import refusing_address
from tests.rpc.conftest import running, settings_for_tests
from tests.tls import Certifier

WORDS = ("client", "show", "admin")


@pytest.fixture
def call(run: Run, served: Served) -> Callable[..., Any]:
    """Return a function that runs a command on the service without a credential in the environment."""

    def call(*words: str, **options: Any) -> Any:
        return run(*words, **({"IDENTITY_TARGET": served.target} | options))

    return call


def test_without_a_credential_the_error_names_the_variables_to_set(call: Run) -> None:
    result = call(*WORDS, code=2)

    assert "IDENTITY_CLIENT_SECRET" in result.stderr
    assert result.stdout == ""
    assert "IDENTITY_CLIENT_SECRET" in json.loads(call(*WORDS, "--json", code=2).stdout)["error"]


def test_a_client_by_secret_from_environment_file_or_answer(
    call: Run, served: Served, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(f"{served.client_secret}\n")

    call(*WORDS, IDENTITY_CLIENT_ID="admin", IDENTITY_CLIENT_SECRET=served.client_secret)
    call(*WORDS, IDENTITY_CLIENT_ID="admin", IDENTITY_CLIENT_SECRET_FILE="secret")
    asked = call(*WORDS, "--client-id", "admin", stdin=f"{served.client_secret}\n")
    assert served.client_secret not in asked.output
    refused = call(*WORDS, "--client-id", "admin", code=3, IDENTITY_CLIENT_SECRET="wrong")
    assert "refused" in refused.stderr
    missing = call(*WORDS, code=2, IDENTITY_CLIENT_ID="admin", IDENTITY_CLIENT_SECRET_FILE="none")
    assert "IDENTITY_CLIENT_SECRET_FILE: cannot read none" in missing.stderr


def test_if_no_terminal_answers_the_variable_of_the_secret_is_named(call: Run) -> None:
    secret = call(*WORDS, "--client-id", "admin", code=2).stderr
    password = call(*WORDS, "--username", "ana", code=2).stderr

    assert "Client secret: no answer; set IDENTITY_CLIENT_SECRET or IDENTITY_CLIENT_SECRET_FILE" in secret
    assert "Password: no answer; set IDENTITY_PASSWORD" in password


def test_a_token_is_used_unless_the_command_line_names_a_credential(call: Run, served: Served) -> None:
    with served.running.client() as client:
        tokens = client.issue_with_secret("admin", served.client_secret, scopes=["identity.admin"])

    call(*WORDS, IDENTITY_TOKEN=tokens.access_token)
    call(*WORDS, code=3, IDENTITY_TOKEN="not.a.token")
    secret = served.client_secret
    call(*WORDS, "--client-id", "admin", IDENTITY_TOKEN="not.a.token", IDENTITY_CLIENT_SECRET=secret)


def test_a_person_by_password(call: Run, admin: Run) -> None:
    words = ("-a", "identity-service", "--password-stdin")
    admin("user", "create", "boss", "-s", "identity.admin", *words, stdin=f"{PASSWORD}\n")
    admin("user", "create", "guest", *words, stdin=f"{PASSWORD}\n")

    call(*WORDS, "--username", "boss", IDENTITY_PASSWORD=PASSWORD)
    asked = call(*WORDS, IDENTITY_USERNAME="boss", stdin=f"{PASSWORD}\n")
    assert PASSWORD not in asked.output
    refused = call(*WORDS, "--username", "guest", "--json", code=3, IDENTITY_PASSWORD=PASSWORD)
    assert json.loads(refused.stdout)["reason"] == "CALLER_SCOPE_MISSING"


def test_the_demo_administrator_is_used_if_no_credential_is_given(
    call: Run, served: Served, tmp_path: Path
) -> None:
    (tmp_path / "var").mkdir()
    demo = {"admin_id": "admin", "admin_secret": served.client_secret}
    (tmp_path / "var" / "demo.json").write_text(json.dumps(demo))

    assert "calling as the administrator in var/demo.json" in call(*WORDS).stderr
    elsewhere = call(*WORDS, "--target", "identity.example:50051", "--tls", code=2)
    assert "name the caller" in elsewhere.stderr
    named = call(*WORDS, "--client-id", "admin", IDENTITY_CLIENT_SECRET=served.client_secret)
    assert "demo.json" not in named.stderr


def test_a_refused_connection_is_unavailable(call: Run) -> None:
    with refusing_address() as target:
        result = call(*WORDS, "--target", target, "--client-id", "x", code=4, IDENTITY_CLIENT_SECRET="x")

    assert "Traceback" not in result.output


def test_a_refused_connection_is_one_line_although_the_client_logs_it_too() -> None:
    with refusing_address() as target:
        words = ["-m", "identity_service", *WORDS, "--target", target, "--client-id", "x"]
        environ = {**os.environ, "IDENTITY_CLIENT_SECRET": "x"}
        done = subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            text=True,
            env=environ,
            timeout=PATIENCE,
            check=False,
        )

    (line,) = done.stderr.splitlines()
    assert line.startswith(f"identity: no process listens on {target}")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--cert", "cert.pem"), "give --cert and --key (IDENTITY_CERT, IDENTITY_KEY) together"),
        (("--key", "cert.pem"), "give --cert and --key (IDENTITY_CERT, IDENTITY_KEY) together"),
        (("--ca", "none.pem"), "--ca (IDENTITY_CA): cannot read none.pem: No such file or directory"),
        (("--ca", "cert.pem"), "--ca (IDENTITY_CA): cert.pem: contains no complete certificate"),
        (("--cert", "cert.pem", "--key", "cert.pem"), "cert.pem, cert.pem: contains no complete certificate"),
    ],
)
def test_files_of_a_connection_that_cannot_be_are_named(
    call: Run, words: tuple[str, ...], named: str
) -> None:
    Path("cert.pem").write_text("")

    assert named in call(*WORDS, *words, code=2).stderr


def test_with_tls_a_service_without_is_not_spoken_to(call: Run, served: Served) -> None:
    result = call(*WORDS, "--tls", "--client-id", "admin", code=4, IDENTITY_CLIENT_SECRET="x")

    assert "x" not in result.stdout


def test_no_command_takes_a_secret_as_an_option() -> None:
    def options(command: Any) -> set[str]:
        own = {name for parameter in command.params for name in parameter.opts}
        return own.union(*map(options, getattr(command, "commands", {}).values()))

    every = options(typer.main.get_command(app))

    assert {"--client-id", "--username", "--target", "--json"} <= every
    assert every.isdisjoint({"--password", "--client-secret", "--secret", "--token", "--bearer"})


def test_the_variables_of_commands_are_no_settings(run: Run) -> None:
    names = (
        "TLS",
        "CA",
        "CERT",
        "KEY",
        "TARGET",
        "TOKEN",
        "CLIENT_ID",
        "CLIENT_SECRET",
        "CLIENT_SECRET_FILE",
    )

    run("config", "check", **{f"IDENTITY_{name}": "1" for name in names})


def test_line_breaks_around_secrets_of_the_environment_are_removed_and_reported_once(
    run: Run, admin: Run, served: Served
) -> None:
    say_trimmed.cache_clear()
    secret = f"{served.client_secret}\n"
    done = run("client", "list", **(served.environ | {"IDENTITY_CLIENT_SECRET": secret}))

    assert (
        done.stderr.count("IDENTITY_CLIENT_SECRET: blanks or line breaks around the value are ignored") == 1
    )
    ask = (
        "token",
        "issue",
        "--client-id",
        served.client_id,
        "-a",
        "identity-service",
        "-s",
        "identity.admin",
    )
    token = admin(*ask, "--print", "access_token").stdout
    assert token.endswith("\n")
    assert "client_id" in run("client", "list", IDENTITY_TARGET=served.target, IDENTITY_TOKEN=token).stdout
    again = run("client", "list", **(served.environ | {"IDENTITY_CLIENT_SECRET": secret}))
    assert "ignored" not in again.stderr


def test_a_password_of_the_environment_keeps_its_blanks(run: Run, admin: Run, served: Served) -> None:
    password = "  correct horse battery staple  "
    admin("user", "create", "blank", "-a", "api", "--password-stdin", stdin=f"{password}\n")

    for written, code in ((f"{password}\n", 0), (password.strip(), 3)):
        run(
            *("token", "issue", "--username", "blank"),
            code=code,
            IDENTITY_PASSWORD=written,
            IDENTITY_TARGET=served.target,
        )


@pytest.fixture
def over_tls(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the administrator's environment for a service with TLS."""
    certifier = Certifier(tmp_path / "tls")
    store = str(tmp_path / "served.db")
    settings = settings_for_tests(**certifier.server().settings())
    with running(settings, lambda clock: SqliteStore.open(store, clock=clock)) as world:
        secret = world.admin.credential.client_secret
        yield {
            "IDENTITY_TARGET": world.target,
            "IDENTITY_CA": str(certifier.file),
            "IDENTITY_CLIENT_ID": secret.client_id,
            "IDENTITY_CLIENT_SECRET": secret.client_secret,
        }


def test_with_tls_a_token_is_verified_as_the_caller(run: Run, over_tls: dict[str, str]) -> None:
    words = ("token", "verify", "x", "--any-audience")
    nobody = {name: value for name, value in over_tls.items() if name in ("IDENTITY_TARGET", "IDENTITY_CA")}

    assert "MALFORMED" in run(*words, code=Exit.REFUSED, **over_tls).stdout
    assert "name the caller" in run(*words, code=Exit.USAGE, **nobody).stderr
    named = nobody | {"IDENTITY_CLIENT_SECRET": over_tls["IDENTITY_CLIENT_SECRET"]}
    assert "MALFORMED" in run(*words, "--client-id", "admin", code=Exit.REFUSED, **named).stdout


def test_with_tls_the_service_is_watched_as_the_caller(over_tls: dict[str, str]) -> None:
    with watching(over_tls["IDENTITY_TARGET"], "watch", **over_tls) as watch:
        watch.until("known")


def test_without_tls_a_token_is_verified_without_a_caller(call: Run) -> None:
    wrong = {"IDENTITY_CLIENT_ID": "admin", "IDENTITY_CLIENT_SECRET": "wrong"}

    assert "MALFORMED" in call("token", "verify", "x", "--any-audience", code=Exit.REFUSED, **wrong).stdout
