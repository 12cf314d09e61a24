"""The service as new users see it: the first run, the example, two processes on one store, and stopping."""

import base64
import json
import re
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from identity_client import IdentityClient, Rejected, UnauthenticatedError, UnavailableError, Verified
from tests.e2e.conftest import installed
from tests.e2e.process import Installation
from tests.patience import PATIENCE, until
from tests.ports import reserve_port
from tests.redis_server import RedisServer
from tests.rpc import raw_http2

ROOT = Path(__file__).parents[2]


@pytest.fixture
def forked(installation: Installation) -> None:
    """Have the fork server start the processes, in tests that are not about their start."""
    installation.forked = True


def quickstart(target: str, demo: dict[str, str]) -> subprocess.CompletedProcess[str]:
    environ = {f"IDENTITY_{name.upper()}": demo[name] for name in ("client_secret", "password")}
    words = ["--client-id", demo["client_id"], "--username", demo["username"]]
    words += ["--audience", "demo-api"]
    return subprocess.run(
        [sys.executable, str(ROOT / "examples/quickstart.py"), "--target", target, *words],
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_the_first_run_creates_store_and_keys_and_the_second_uses_them(installation: Installation) -> None:
    (installation.folder / "examples").symlink_to(ROOT / "examples")  # as in a checkout
    demo = None
    for _ in range(2):
        with installation.serve("--dev") as service:
            found = json.loads((installation.folder / "var/demo.json").read_text())
            demo = demo or found
            assert found == demo
            done = quickstart(service.target, demo)
            assert done.returncode == 0, done.stderr
            assert "6. the access token is refused" in done.stdout
            assert service.terminate() == 0
    assert stat.S_IMODE((installation.folder / "var/demo.json").stat().st_mode) == 0o600
    assert "examples/quickstart.py" in installation.log


def test_clients_write_neither_tokens_nor_lines_of_libraries_into_the_log(installation: Installation) -> None:
    malformed: list[tuple[Any, Any]] = [
        (b"authorization", b"Bearer a-token\xff"),
        ("te", "a"),
        ("te", "trailers"),
    ]
    verify = "/identityapi.v1.IdentityService/Verify"
    with installation.serve("--dev") as service:
        for header in malformed:
            raw_http2.call(service.target, verify, bytes(5), headers=[header])
        assert service.terminate() == 0

    assert len(installation.events("rpc")) >= 2
    assert not {"a-token", "grpc", "Traceback", "hpack_parser"} & set(re.split(r"[^\w-]", installation.log))


def test_the_printed_calls_can_be_pasted(installation: Installation) -> None:
    with installation.serve("--dev"):
        call = re.compile(r"(TOKEN=\$\(.*?demo-api( --target \S+)?)$", re.DOTALL | re.MULTILINE)
        until(lambda: call.search(installation.log) is not None)  # it is said after it serves
        pasted = call.search(installation.log)
        assert pasted is not None
        done = subprocess.run(
            ["bash", "-euc", pasted.group(1)],
            cwd=installation.folder,
            env={"PATH": "/usr/bin:/bin", "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    assert "verified     yes" in done.stdout


def test_the_printed_request_over_http_gets_a_token(tmp_path: Path) -> None:
    with installed("sqlite", tmp_path) as installation, installation.serve("--dev"):
        call = re.compile(r"curl -s http://(\S+) \\\n +-u (\S+) -d (\S+)$", re.MULTILINE)
        until(lambda: call.search(installation.log) is not None)  # it is said after it serves
        printed = call.search(installation.log)
        assert printed is not None
        place, credential, form = printed.groups()
        basic = base64.b64encode(credential.encode()).decode()
        request = Request(f"http://{place}", form.encode(), {"Authorization": f"Basic {basic}"})
        with urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310  # an http URL
            token = json.load(answer)

    assert token["token_type"] == "Bearer"


def test_without_a_master_key_the_first_run_makes_a_private_one(tmp_path: Path) -> None:
    environ = Installation(tmp_path, f"sqlite:///{tmp_path}/identity.db").environ
    del environ["IDENTITY_MASTER_KEY"]
    port = reserve_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "identity_service", "serve", "--dev", "--listen", f"127.0.0.1:{port}"],
        cwd=tmp_path,
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = next(line for line in process.stderr if "serving on" in line)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)

    assert f"127.0.0.1:{port}" in said
    assert process.returncode == 0
    key = tmp_path / "var/master.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_text()) >= 32


@pytest.mark.usefixtures("forked")
def test_a_token_that_one_process_revokes_is_refused_by_the_other(installation: Installation) -> None:
    admin = installation.init()
    with (
        installation.serve() as one,
        installation.serve() as two,
        one.client() as first,
        two.client() as second,
    ):
        tokens = first.issue_with_secret(admin["client_id"], admin["client_secret"])
        assert isinstance(second.verify(tokens.access_token, any_audience=True), Verified)

        revision = first.revoke_token(tokens.access_token)

        at_once = second.verify(tokens.access_token, any_audience=True, at_least_revision=revision)
        assert isinstance(at_once, Rejected)
        assert at_once.reason == "REVOKED"


@pytest.mark.usefixtures("forked")
def test_a_revocation_reaches_the_other_process_by_itself(installation: Installation) -> None:
    """The store notifies the other process of the revocation; no client has to ask that process for it."""
    admin = installation.init()
    with (
        installation.serve() as one,
        installation.serve() as two,
        one.client() as first,
        two.client() as second,
    ):
        tokens = first.issue_with_secret(admin["client_id"], admin["client_secret"])
        first.revoke_token(tokens.access_token)

        until(lambda: isinstance(second.verify(tokens.access_token, any_audience=True), Rejected))


@pytest.mark.usefixtures("forked")
def test_a_change_of_the_command_line_reaches_the_running_service(installation: Installation) -> None:
    installation.init()
    with installation.serve() as service, service.client() as client:
        made = service.json("client", "create", "reports", "--audience", "api", "--scope", "read")
        tokens = client.issue_with_secret("reports", made["client_secret"])
        service.json("client", "disable", "reports")

        outcome = client.verify(tokens.access_token, audiences=["api"], strong=True)
        assert isinstance(outcome, Rejected)
        with pytest.raises(UnauthenticatedError):
            client.issue_with_secret("reports", made["client_secret"])


@pytest.mark.usefixtures("forked")
def test_500_refreshes_through_two_processes_give_one_successor(installation: Installation) -> None:
    """The test sets a grace of one hour, within which all calls with one token count as the same refresh."""
    installation.init()
    installation.environment["IDENTITY_REFRESH_GRACE"] = "1h"
    with installation.serve() as one, installation.serve() as two:
        one.create_user("ana", "correct horse battery")
        clients = [IdentityClient(service.target) for service in (one, two) for _ in range(2)]
        token = clients[0].issue_with_password("ana", "correct horse battery").refresh_token
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(lambda n: clients[n % 4].refresh(token), range(500)))
        for client in clients:
            client.close()

    assert len({answer.refresh_token for answer in answers}) == 1


def test_sigterm_ends_it_with_0_and_closes_the_port(installation: Installation) -> None:
    installation.init()
    with installation.serve() as service, service.client(max_attempts=1) as client:
        assert service.terminate() == 0
        with pytest.raises(UnavailableError):
            client.verify("x", any_audience=True)


def test_an_uninitialised_store_is_refused_with_a_fix(installation: Installation) -> None:
    done = installation.run("serve", "--listen", "127.0.0.1:0")

    assert done.returncode == 4
    assert "identity init" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_master_key_is_refused_with_a_fix(installation: Installation) -> None:
    installation.init()
    done = installation.run(
        "serve", "--listen", "127.0.0.1:0", IDENTITY_MASTER_KEY="another master key, which is long enough"
    )

    assert done.returncode == 1
    assert "master key does not open" in done.stderr


def test_a_port_in_use_is_refused_with_a_fix(installation: Installation) -> None:
    installation.init()
    with installation.serve() as service:
        done = installation.run("serve", "--listen", service.target)

    assert done.returncode == 1
    assert "listen" in done.stderr


def test_a_redis_that_is_not_durable_is_refused_but_for_development(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis")
    server.start()
    try:
        server.configure("appendfsync", "no")
        installation = Installation(tmp_path, server.url)
        installation.init()

        refused = installation.run("serve", "--listen", "127.0.0.1:0")
        assert refused.returncode == 1
        assert "CONFIG SET appendfsync always" in refused.stderr

        with installation.serve("--dev"):
            assert "`unsynced`" in installation.log
    finally:
        server.stop()
