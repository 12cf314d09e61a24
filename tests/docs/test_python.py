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
from tests.docs.recipes import DOCS, compile_reports, sections
from tests.patience import PATIENCE

PAGE = sections("python.md", languages=["python"])
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
    compile_reports(tmp_path)

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

    assert printed == "today\n"


def test_every_message_of_the_page_is_one_of_the_sources() -> None:
    rows = re.search(r"\| text \|.*?\n\n", (DOCS / "python.md").read_text(), re.DOTALL)
    assert rows is not None
    messages = {
        text for row in rows[0].strip().splitlines()[2:] for text in re.findall("`(.+?)`", row.split("|")[1])
    }
    of_grpc = {"Socket closed", "CERTIFICATE_VERIFY_FAILED"}
    of_values = {"identity-service", "authorization"}
    sources = "".join(
        path.read_text()
        for folder in ("clients/python/identity_client", "identity_service")
        for path in (DOCS.parent / folder).rglob("*.py")
    ).replace("%s", "")

    assert len(messages) > len(of_grpc | of_values)
    assert {text for text in messages - of_grpc - of_values if text not in sources} == set()


def test_every_class_of_the_page_exists() -> None:
    page = (DOCS / "python.md").read_text()
    names = set(re.findall(r"`((?:Async)?[A-Z]\w+)`", page)) - {"GuardMiddleware", "Guard", "FastAPI"}
    variables = {name for name in names if name.isupper()}
    assert {name for name in names - variables if not hasattr(identity_client, name)} == set()
