"""The commands for Envoy in docs/integrations.md, and the effect of Istio's EnvoyFilter there."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.docs.recipes import DOCS, Block, put_program, sections
from tests.e2e.process import Installation
from tests.http.gateway import gateway, read, replaced, serving
from tests.http.site import Site
from tests.patience import PATIENCE, until
from tests.ports import reserve_port
from tests.rpc.world import API

COMMANDS: Final = sections("integrations.md", ("sh",))["Envoy"]
_EXPECTED: Final = re.compile(r"^curl .* # (\d{3})", re.MULTILINE)
_ANSWERED: Final = re.compile(r"HTTP/1\.1 (\d{3}) ")


@pytest.fixture
def protected(tmp_path: Path) -> Iterator[int]:
    """The port of a service that the gateway protects: an HTTP file server for an empty folder."""
    (tmp_path / "empty").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "empty"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()


def test_the_commands_for_envoy_show_a_revocation_and_a_rotation(tmp_path: Path, protected: int) -> None:
    start, ask = COMMANDS
    http, gateways = f"127.0.0.1:{reserve_port()}", {10000: reserve_port(), 10001: reserve_port()}
    settings = dict(re.findall(r"^(IDENTITY_\w+)=(\S+) make run", start.code))
    settings["IDENTITY_HTTP_LISTEN"] = http
    installation = Installation(tmp_path, "sqlite:///var/identity.db", settings)
    with ExitStack() as stack:
        service = stack.enter_context(installation.serve("--dev"))
        until(lambda: "Ctrl-C stops the service" in installation.log)
        ports = {
            9001: protected,
            50051: int(service.target.rpartition(":")[2]),
            8080: int(http.rpartition(":")[2]),
            "http://127.0.0.1:8080": f"http://{http}",
            "0.2s": f"{PATIENCE}s",
            "5s": f"{PATIENCE}s",
        }
        for name in re.findall(r"-c deploy/envoy/(\S+)", start.code):
            (tmp_path / name).mkdir()
            stack.enter_context(serving(replaced(read(name), ports | gateways), tmp_path / name))
        demo = json.loads((tmp_path / "var/demo.json").read_text())
        places = {f":{port}/": f":{here}/" for port, here in gateways.items()}
        places |= {"IDENTITY_PASSWORD=…": f"IDENTITY_PASSWORD={demo['password']}"}

        printed = ask.run(tmp_path, {"IDENTITY_TARGET": service.target}, places)

    assert len(gateways) == start.code.count("envoy --")
    assert _ANSWERED.findall(printed) == _EXPECTED.findall(ask.code)
    assert re.search(r"^state +signing$", printed, re.MULTILINE)  # the state of the new key
    assert {"401", "404"} == set(_EXPECTED.findall(ask.code))


def test_the_command_for_a_callers_token_writes_what_envoy_reads(tmp_path: Path) -> None:
    """The command is run here with a fake `identity` program; test_runnable.py runs it with a service."""
    page = (DOCS / "envoy-gateway.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```sh runnable\n(TOKEN=.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "gateway.secret").write_text("a secret\n")
    put_program(tmp_path, "identity", "a.b.c\n")

    Block(language="sh", code=code).run(tmp_path, {}, {})

    (resource,) = json.loads((tmp_path / "caller-token.json").read_text())["resources"]
    assert resource == {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "caller-token",
        "generic_secret": {"secret": {"inline_string": "a.b.c"}},
    }


def manifest(kind: str) -> Any:
    blocks: list[Block] = sections("integrations.md", ("yaml",))["Istio"]
    found = [each for block in blocks for each in yaml.safe_load_all(block.code) if each.get("kind") == kind]
    assert len(found) == 1
    return found[0]["spec"]


def test_the_filter_for_istio_names_what_every_route_requires(site: Site, tmp_path: Path) -> None:
    (patch,) = manifest("EnvoyFilter")["configPatches"]
    configuration = read("ext-authz.yaml")
    (listener,) = configuration["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (host,) = manager["route_config"]["virtual_hosts"]
    host["routes"] = [{"match": {"prefix": "/"}, "route": {"cluster": "orders"}, **patch["patch"]["value"]}]
    client = site.world.new_client()
    may, may_not = (site.world.issue(client, scopes=[scope]).access_token for scope in ("read", "write"))

    with gateway(site, tmp_path, configuration, {"api": API}) as front:
        statuses = [
            front.get("/anything").status,
            front.get("/anything", authorization=f"Bearer {may_not}").status,
            front.get("/anything", authorization=f"Bearer {may}").status,
        ]

    assert statuses == [401, 403, 200]
