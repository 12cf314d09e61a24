"""docs/python-calling.md: its blocks work against a service with TLS that authenticates its callers."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from identity_client import AccessTokens, ClientOptions, IdentityClient, Rejected
from identity_service.storage.sqlite import SqliteStore
from identity_shared.strict import decode_base64url, parse_object
from tests.clients.echo import ONE, Echo
from tests.docs.recipes import DOCS, compile_reports, sections
from tests.rpc.conftest import running, settings_for_tests
from tests.rpc.shop import ORDERS_API, STOCK_API, Shop
from tests.rpc.world import World
from tests.tls import Certifier

PAGE = sections("python-calling.md", languages=["python"])
STUB = f"""
from reports_pb2 import Report

class ReportsStub:
    def __init__(self, channel):
        self.Get = channel.unary_unary("{ONE}", Report.SerializeToString, Report.FromString)
"""


@pytest.fixture
def certifier(tmp_path: Path) -> Certifier:
    return Certifier(tmp_path)


@pytest.fixture
def world(tmp_path: Path, certifier: Certifier) -> Iterator[World]:
    settings = settings_for_tests(**certifier.server().settings())
    with running(settings, lambda clock: SqliteStore.open(str(tmp_path / "i.db"), clock=clock)) as world:
        assert world.settings.callers_prove_themselves
        yield world


@pytest.fixture
def checker(world: World, certifier: Certifier) -> Iterator[IdentityClient]:
    """A client of the service that has the scope to verify tokens."""
    named = world.admin.credential.client_secret
    options = ClientOptions(tls=certifier.options())
    with (
        AccessTokens.by_secret(
            named.client_id,
            named.client_secret,
            target=world.target,
            scopes=["identity.verify"],
            options=options,
        ) as bearer,
        IdentityClient(world.target, options=ClientOptions(tls=certifier.options(), bearer=bearer)) as client,
    ):
        yield client


@pytest.fixture
def variables(world: World, tmp_path: Path, certifier: Certifier) -> dict[str, str]:
    """The environment variables of a client that may call the service `reports`."""
    named = world.new_client("caller", audiences=("reports",)).credential.client_secret
    return of_client(world, certifier, named.client_id, named.client_secret, tmp_path)


def of_client(
    world: World, certifier: Certifier, client_id: str, secret: str, folder: Path
) -> dict[str, str]:
    (folder / "secret").write_text(secret)
    return {
        "IDENTITY_TARGET": world.target,
        "IDENTITY_CA": str(certifier.file),
        "IDENTITY_CLIENT_ID": client_id,
        "IDENTITY_CLIENT_SECRET_FILE": str(folder / "secret"),
        "PYTHONPATH": str(DOCS.parent / "clients" / "python"),
    }


def test_a_channel_of_either_kind_calls_a_service_with_a_valid_token(
    checker: IdentityClient, variables: dict[str, str], tmp_path: Path, certifier: Certifier
) -> None:
    def reason(token: str) -> str:
        outcome = checker.verify(token, audiences=["reports"])
        return outcome.reason if isinstance(outcome, Rejected) else ""

    compile_reports(tmp_path)
    (tmp_path / "reports_pb2_grpc.py").write_text(STUB)
    with Echo(reason).serving(certifier) as target:
        printed = [
            block.run(tmp_path, variables, {"reports:443": target}) for block in PAGE["A gRPC service"]
        ]

    assert printed == ["today\n"] * 2


def test_requests_over_http_carry_a_valid_token(
    checker: IdentityClient, variables: dict[str, str], tmp_path: Path
) -> None:
    class Reports(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = self.headers["authorization"].removeprefix("Bearer ")
            is_refused = isinstance(checker.verify(token, audiences=["reports"]), Rejected)
            self.send_response(401 if is_refused else 200)
            self.end_headers()
            self.wfile.write(b"refused" if is_refused else b"the report")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Reports) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        places = {"https://reports/": f"http://127.0.0.1:{server.server_port}/"}
        printed = [block.run(tmp_path, variables, places) for block in PAGE["An HTTP service"]]
        server.shutdown()

    assert printed == ["the report\n"] * 2


def test_processes_share_their_tokens_in_a_file(variables: dict[str, str], tmp_path: Path) -> None:
    (block,) = PAGE["Many processes"]

    printed, stored = [], []
    for _ in range(2):
        printed.append(block.run(tmp_path, variables, {}))
        stored.append((tmp_path / "tokens.json").read_text())

    assert printed == ["True\n"] * 2
    assert stored[0] == stored[1]


def test_an_exchange_gives_a_token_for_the_caller(world: World, certifier: Certifier, tmp_path: Path) -> None:
    with certifier.channel(world.target) as world.channel:
        world.__post_init__()
        shop = Shop(world)
        (tmp_path / "token").write_text(shop.sign_in(audience=ORDERS_API).access_token)
    named = shop.orders.credential.client_secret
    environment = of_client(world, certifier, named.client_id, named.client_secret, tmp_path)
    (block,) = PAGE["Acting for the caller"]

    printed = block.run(tmp_path, environment, {})

    claims = parse_object(decode_base64url(printed.split(".")[1]))
    assert (claims["sub"], claims["aud"]) == (shop.ana.id, [STOCK_API])
    assert claims["act"]["sub"] == "orders"


def test_the_page_names_every_variable_that_is_read() -> None:
    module = DOCS.parent / "clients" / "python" / "identity_client" / "environment.py"
    page = (DOCS / "python-calling.md").read_text()

    read = set(re.findall(r"IDENTITY_[A-Z_]+", module.read_text()))

    assert {name for name in read if f"`{name}`" not in page} == set()
