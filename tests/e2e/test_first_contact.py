"""The first minutes with the service: version, greeting, a store that is away, an expired certificate."""

import json
import os
import pty
import re
import subprocess
import sys
from datetime import timedelta
from importlib import metadata
from pathlib import Path

import pytest

from identity_client import Verified
from tests.e2e.process import Installation, Running
from tests.patience import PATIENCE, until
from tests.ports import refusing_address, reserve_port
from tests.tls import Certifier


@pytest.fixture
def relative(tmp_path: Path) -> Installation:
    """An installation whose store is named as by default, relative to the working directory."""
    return Installation(tmp_path, "sqlite:///var/identity.db")


def test_the_version_is_that_of_the_package(relative: Installation) -> None:
    assert relative.run("--version").stdout == f"identity-service {metadata.version('identity-service')}\n"


def test_a_trial_greets_before_any_line_of_the_log(relative: Installation) -> None:
    for _ in range(2):
        with relative.serve("--dev") as service:
            until(lambda: "Ctrl-C stops the service" in relative.log)
            assert service.terminate() == 0

    lines = relative.log.splitlines()
    store = f"sqlite:///{relative.folder}/var/identity.db"
    assert lines[0] == f"identity-service: starting for trials (--dev) with the store {store}"
    assert lines[1].startswith("identity-service: serving on")
    assert lines[1].endswith(f", store {store}")
    greeting = relative.log.partition("Ctrl-C stops")[0]
    assert '{"' not in greeting


def test_a_trial_accepts_the_tokens_of_one_without_http(relative: Installation) -> None:
    """Both are on one `var/`; the issuer of the second is the URL of its HTTP port."""

    def token(running: Running) -> str:
        demo = json.loads((relative.folder / "var/demo.json").read_text())
        with running.client() as client:
            return client.issue_with_secret(demo["client_id"], demo["client_secret"]).access_token

    def issuer(running: Running, text: str) -> str:
        with running.client() as client:
            outcome = client.verify(text, any_audience=True)
        assert isinstance(outcome, Verified)
        return outcome.issuer

    relative.environment["IDENTITY_HTTP_LISTEN"] = ""
    with relative.serve("--dev") as service:
        former = token(service)
    http = relative.environment["IDENTITY_HTTP_LISTEN"] = f"127.0.0.1:{reserve_port()}"
    with relative.serve("--dev") as service:
        names = issuer(service, former), issuer(service, token(service))

    assert names == ("identity-service", f"http://{http}")


def test_a_trial_on_a_store_of_unknown_secrets_says_how_to_create_principals(relative: Installation) -> None:
    (relative.folder / "var").mkdir()
    relative.init()
    with relative.serve("--dev"):
        until(lambda: "`identity client create`" in relative.log)

    assert "The store was initialised before, and var/demo.json has no secrets of it" in relative.log


def test_a_trial_with_the_certificates_of_dev_certs_prints_calls_that_can_be_pasted(
    relative: Installation,
) -> None:
    relative.run("dev-certs")
    tls = {"CERTIFICATE": "server.pem", "KEY": "server.key", "CLIENT_CA": "ca.pem"}
    relative.environment |= {f"IDENTITY_TLS_{name}": f"var/tls/{file}" for name, file in tls.items()}
    relative.environment |= {"IDENTITY_MTLS_LISTEN": f"127.0.0.1:{reserve_port()}"}
    call = re.compile(r"^ +(\S+identity client list.*)$", re.MULTILINE)
    process = relative.start(("--dev",), reserve_port())
    try:
        until(lambda: call.search(relative.log) is not None)
        pasted = call.search(relative.log)
        assert pasted is not None
        assert pasted[1].endswith("--ca var/tls/ca.pem")
        done = relative.run(*pasted[1].split()[1:])
    finally:
        process.terminate()
        process.wait(PATIENCE)

    assert done.returncode == 0, done.stderr
    assert "Only a caller with the scope identity.verify may verify tokens" in relative.log


def test_a_redis_that_is_away_is_named_with_what_to_do(tmp_path: Path) -> None:
    with refusing_address() as address:
        installation = Installation(tmp_path, f"redis://:hunter2@{address}/0")
        for command in ("init", "serve", "doctor"):
            done = installation.run(command)

            said = done.stdout + done.stderr
            assert done.returncode != 0
            assert f"store redis://***@{address}/0: cannot reach Redis" in said
            assert "Connection refused" in said
            assert "Start Redis there, or correct the URL (setting `store`, IDENTITY_STORE)" in said
            assert "hunter2" not in said


def test_a_folder_of_the_store_that_is_missing_is_named_in_full(tmp_path: Path) -> None:
    done = Installation(tmp_path, "sqlite:///missing/identity.db").run("init")

    assert f"the store {tmp_path}/missing/identity.db cannot be opened" in done.stderr


def test_a_certificate_that_has_expired_is_named_when_the_service_starts(relative: Installation) -> None:
    late = Certifier(relative.folder / "tls").server(lifetime=-timedelta(minutes=1))
    (relative.folder / "var").mkdir()
    relative.init()
    relative.environment |= {
        "IDENTITY_TLS_CERTIFICATE": str(late.certificate_file),
        "IDENTITY_TLS_KEY": str(late.key_file),
    }
    process = relative.start((), reserve_port())
    until(lambda: "serving on" in relative.log)
    process.terminate()
    process.wait(PATIENCE)

    assert f"TLS certificate: {late.certificate_file} (localhost, 127.0.0.1) expired on" in relative.log
    assert "replace the file, a restart is not needed" in relative.log


@pytest.mark.parametrize(
    "words", [("--help",), ("token", "verify"), ("config", "show")], ids=["help", "usage", "table"]
)
@pytest.mark.parametrize("no_color", ["", "1"], ids=["styled", "plain"])
def test_no_color_turns_every_style_off(
    relative: Installation, words: tuple[str, ...], no_color: str
) -> None:
    """On a terminal; bold and dim are styles too."""
    shown = on_a_terminal(relative, "-m", "identity_service", *words, NO_COLOR=no_color)

    assert words[0] in shown or "Usage" in shown or "setting" in shown
    assert ("\x1b[" in shown) is not bool(no_color)


@pytest.mark.parametrize("no_color", ["", "1"], ids=["styled", "plain"])
def test_no_color_turns_every_style_of_the_log_off(relative: Installation, no_color: str) -> None:
    program = """if True:
        from identity_service.telemetry import logs
        logs.configure("info", "console")
        logs.StructuredEventLog().record("store_found", thread="heartbeat")
    """

    shown = on_a_terminal(relative, "-c", program, NO_COLOR=no_color)

    assert "store_found" in shown
    assert ("\x1b[" in shown) is not bool(no_color)


def on_a_terminal(installation: Installation, *words: str, **changes: str) -> str:
    """Return the output of a Python program on a terminal of its own, until it ends."""
    terminal, inside = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=installation.folder,
        env=installation.environ | {"TERM": "xterm-256color", "COLUMNS": "200"} | changes,
        stdin=inside,
        stdout=inside,
        stderr=inside,
    )
    os.close(inside)
    shown = b""
    try:
        while block := os.read(terminal, 65_536):
            shown += block
    except OSError:  # Linux reports the end of the other side as an error
        pass
    finally:
        os.close(terminal)
        process.wait(PATIENCE)
    return shown.decode()
