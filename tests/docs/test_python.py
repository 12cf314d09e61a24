"""docs/python.md: its two programs work together, against a service with TLS."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import identity_client
from identity_client.testing import ServiceUnderTest, service_process
from tests.docs.recipes import DOCS, sections
from tests.patience import PATIENCE

PAGE = sections("python.md", languages=["python"])
PROGRAM = """
class ReportsStub:
    def __init__(self, channel):
        self.Get = channel.unary_unary("/reports.v1.Reports/Get")
"""
SERVER = """
import grpc
from concurrent.futures import ThreadPoolExecutor

def get(request, context):
    return request

handlers = {"Get": grpc.unary_unary_rpc_method_handler(get)}
server = grpc.server(ThreadPoolExecutor(2), interceptors=[guard])
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("reports.v1.Reports", handlers)])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
verifier.wait_ready()
print(port, flush=True)
input()
"""


@pytest.fixture
def service() -> Iterator[ServiceUnderTest]:
    with service_process(tls=True) as service:
        yield service


def test_the_caller_of_the_page_is_admitted_by_its_guard(service: ServiceUnderTest, tmp_path: Path) -> None:
    (calling,), (protecting,) = PAGE["Call a service"], PAGE["Protect a service"]
    service.create_client("reports", audiences=["identity-service"], scopes=["identity.verify"])
    service.create_client("caller", audiences=["reports"], scopes=["reports.read"])
    (tmp_path / "reports_pb2_grpc.py").write_text(PROGRAM)

    with subprocess.Popen(
        [sys.executable, "-c", protecting.code + SERVER],
        env={**os.environ, **service.environment("reports")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        printed = calling.run(
            tmp_path,
            {**service.environment("caller"), "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
            {"127.0.0.1:50061": f"127.0.0.1:{port}"},
        )
        server.communicate("\n", timeout=PATIENCE)

    assert printed == "b'today'\n"


def test_every_class_of_the_page_exists() -> None:
    page = (DOCS / "python.md").read_text()
    names = set(re.findall(r"`((?:Async)?[A-Z]\w+)`", page)) - {"GuardMiddleware", "Guard", "FastAPI"}
    variables = {name for name in names if name.isupper()}
    assert {name for name in names - variables if not hasattr(identity_client, name)} == set()
