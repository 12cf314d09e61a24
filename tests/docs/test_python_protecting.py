"""docs/python-protecting.md: its example services run, are protected, and need at most 6 lines for that."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests

from tests.docs.recipes import compile_reports, sections
from tests.patience import PATIENCE, until
from tests.ports import reserve_address
from tests.rpc.conftest import StartWorld, certifier, start_world
from tests.rpc.world import World
from tests.tls import Certifier

__all__ = ["certifier", "start_world"]

PAGE = sections("python-protecting.md", ("python", "proto", "sh"))
GRPC = ("gRPC with threads", "gRPC with asyncio")
WEB = ("FastAPI", "Starlette", "Django")
TLS = "If the identity service has TLS"
MARK = "  # +"
DJANGO = """
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from identity_client.asgi import caller

async def view(request):
    return JSONResponse({"for": caller().subject})

def get_asgi_application():
    django = Starlette(routes=[Route("/reports/{id}/", view, methods=["GET", "DELETE"])])
    async def app(scope, receive, send):
        await django(scope, receive, send)
    return app
"""
"""The code of a stand-in for Django, which is not installed: an application whose routes the guard cannot
see."""


def code_of(section: str) -> str:
    return next(block.code for block in PAGE[section] if block.language == "python")


@pytest.fixture
def world(start_world: StartWorld) -> World:
    return start_world()


@pytest.fixture
def run(world: World, tmp_path: Path) -> Callable[[str], Any]:
    """A function that runs the example service of a section in a process, for the length of a block."""
    compile_reports(tmp_path)
    (tmp_path / "django" / "core").mkdir(parents=True)
    (tmp_path / "django" / "core" / "asgi.py").write_text(DJANGO)

    @contextmanager
    def run(section: str) -> Iterator[str]:
        address = reserve_address()
        (tmp_path / "service.py").write_text(code_of(section).replace("127.0.0.1:50061", address))
        variables = {"IDENTITY_TARGET": world.target, "IDENTITY_ISSUER": world.settings.issuer}
        host, _, port = address.rpartition(":")
        web = ["-m", "uvicorn", "service:app", "--host", host, "--port", port, "--log-level", "error"]
        command = [sys.executable, *(web if section in WEB else ["service.py"])]
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=tmp_path, env=os.environ | variables, stdout=log, stderr=log
            )
            try:
                yield address
            finally:
                process.terminate()
                process.wait(PATIENCE)

    return run


def token_of(world: World, *scopes: str) -> str:
    client = world.new_client(
        f"c{len(scopes)}", audiences=("reports",), scopes=("reports.read", "reports.admin")
    )
    return world.issue(client, scopes=list(scopes)).access_token


@pytest.mark.parametrize("section", GRPC)
def test_a_grpc_service_of_the_page_is_protected(
    run: Callable[[str], Any], world: World, section: str
) -> None:
    reading, all_ = token_of(world, "reports.read"), token_of(world, "reports.read", "reports.admin")
    with run(section) as address, grpc.insecure_channel(address) as channel:

        def call(method: str, token: str = "") -> str:
            metadata = (("authorization", f"Bearer {token}"),) if token else ()
            kinds: Any = channel
            path = method if "/" in method else f"/reports.v1.Reports/{method}"
            try:
                if method == "Follow":
                    answer: bytes = next(kinds.unary_stream(path)(b"", metadata=metadata, timeout=PATIENCE))
                else:
                    answer = kinds.unary_unary(path)(b"", metadata=metadata, timeout=PATIENCE)
            except grpc.RpcError as error:
                return str(error.code().name)
            return answer[2:].decode()

        until(lambda: call("Get", reading) != "UNAVAILABLE")
        assert [call(method, reading) for method in ("Get", "Follow", "Delete")] == [
            "c1",
            "c1",
            "PERMISSION_DENIED",
        ]
        assert call("Delete", all_) == ""
        assert {call(method) for method in ("Get", "Follow", "Delete")} == {"UNAUTHENTICATED"}
        assert call("/x.Y/Z", all_) == "PERMISSION_DENIED"


@pytest.mark.parametrize("section", WEB)
def test_a_web_application_of_the_page_is_protected(
    run: Callable[[str], Any], world: World, section: str
) -> None:
    reading, all_ = token_of(world, "reports.read"), token_of(world, "reports.read", "reports.admin")
    end = "/" if section == "Django" else ""
    with run(section) as address:

        def call(method: str, token: str = "", path: str = f"/reports/7{end}") -> int:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            try:
                url = f"http://{address}{path}"
                return requests.request(method, url, headers=headers, timeout=PATIENCE).status_code
            except requests.ConnectionError:
                return 503

        until(lambda: call("GET", reading) != 503)
        assert [call(method, reading) for method in ("GET", "DELETE")] == [200, 403]
        assert call("DELETE", all_) == 200
        assert [call(method) for method in ("GET", "DELETE")] == [401, 401]
        assert call("GET", all_, "/other") == 403


@pytest.mark.parametrize("section", [*GRPC, *WEB])
def test_protecting_takes_six_lines(section: str) -> None:
    added = [line for line in code_of(section).splitlines() if line.endswith(MARK)]

    assert 0 < len(added) <= 6
    assert max(len(line.removesuffix(MARK)) for line in code_of(section).splitlines()) <= 110


def test_a_verifier_authenticates_itself_to_a_service_with_tls(
    start_world: StartWorld, certifier: Certifier, tmp_path: Path
) -> None:
    world = start_world(**certifier.server().settings())
    client = world.new_client(audiences=("identity-service",), scopes=("identity.verify",))
    (tmp_path / "ca.pem").write_bytes(certifier.file.read_bytes())
    (tmp_path / "secret").write_text(client.credential.client_secret.client_secret)
    (block,) = PAGE[TLS]

    path = {name: value for name, value in os.environ.items() if name == "PYTHONPATH"}

    block.run(tmp_path, path, {"identity:50051": world.target})


def test_all_code_of_the_page_was_run() -> None:
    assert {heading for heading, blocks in PAGE.items() if blocks} == {*GRPC, *WEB, TLS}
