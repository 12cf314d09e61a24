"""A user's first minutes with the service: version, greeting, a missing store, an expired certificate."""

import json
import os
import pty
import re
import subprocess
import sys
import urllib.request
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
    """An installation whose store has a path relative to the working directory, as by default."""
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
    """The second trial uses the same `var/`, but its issuer is the URL of its HTTP port."""

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


@pytest.mark.parametrize("engine", ["grpcio", "envoy"])
def test_a_trial_answers_browsers_if_their_origins_are_set_and_nothing_else(
    relative: Installation, engine: str
) -> None:
    origin = relative.environment["IDENTITY_WEB_ORIGINS"] = "http://127.0.0.1:8000"
    with relative.serve("--dev", "--engine", engine):
        until(lambda: "HTTP on http://" in relative.log)
        place = relative.log.partition("HTTP on http://")[2].split()[0]
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        url = f"http://{place}/identityapi.v1.IdentityService/Issue"
        preflight = urllib.request.Request(url, headers=asked, method="OPTIONS")
        with urllib.request.urlopen(preflight, timeout=PATIENCE) as answer:  # noqa: S310  # it is http
            allowed = answer.headers["Access-Control-Allow-Origin"]

    assert allowed == origin


@pytest.mark.parametrize("words", [(), ("--workers", "1"), ("--engine", "envoy")])
def test_the_service_says_where_each_listener_is(relative: Installation, words: tuple[str, ...]) -> None:
    certifier = Certifier(relative.folder / "tls")
    server = certifier.server()
    (relative.folder / "var").mkdir()
    relative.init()
    listeners = ("MTLS_LISTEN", "HTTP_LISTEN", "HTTP_MTLS_LISTEN")
    places = {f"IDENTITY_{name}": f"127.0.0.1:{reserve_port()}" for name in (*listeners, "METRICS_LISTEN")}
    relative.environment |= places | {
        "IDENTITY_TLS_CERTIFICATE": str(server.certificate_file),
        "IDENTITY_TLS_KEY": str(server.key_file),
        "IDENTITY_TLS_CLIENT_CA": str(certifier.file),
        "IDENTITY_ISSUER": "https://id.example",
        "IDENTITY_HTTP_MTLS_URL": "https://mtls.id.example",
    }
    port = reserve_port()
    process = relative.start(words, port)
    try:
        until(lambda: "metrics on" in relative.log or process.poll() is not None)
    finally:
        process.terminate()
        process.wait(PATIENCE)

    said = [line for line in relative.log.splitlines() if line.startswith("identity-service: ")]
    grpc_mtls, http, http_mtls, metrics = places.values()
    assert said[0].startswith(f"identity-service: serving on 127.0.0.1:{port} with TLS")
    assert said[1:5] == [
        f"identity-service: for clients with a certificate on {grpc_mtls}",
        f"identity-service: HTTP on https://{http}",
        f"identity-service: HTTP for clients with a certificate on https://{http_mtls}",
        f"identity-service: metrics on http://{metrics}/metrics",
    ]


def test_a_free_port_is_named(relative: Installation) -> None:
    relative.environment["IDENTITY_METRICS_LISTEN"] = "127.0.0.1:0"
    with relative.serve("--dev"):
        until(lambda: "metrics on http://127.0.0.1:" in relative.log)
        place = relative.log.partition("metrics on http://")[2].split()[0]
        with urllib.request.urlopen(f"http://{place}", timeout=PATIENCE) as answer:
            content = answer.read()

    assert b"identity_fresh 1.0" in content


def test_a_trial_on_a_store_of_unknown_secrets_says_how_to_create_principals(relative: Installation) -> None:
    (relative.folder / "var").mkdir()
    relative.init()
    with relative.serve("--dev"):
        until(lambda: "`identity client create`" in relative.log)

    assert "The store was initialised before, and var/demo.json does not hold its secrets" in relative.log


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
    """The output goes to a terminal. Bold and dim text are styles as well as colours."""
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
    """Run a Python program on a pseudoterminal to its end, and return its output."""
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
