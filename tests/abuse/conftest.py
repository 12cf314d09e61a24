"""Services on both engines, and a plain server of grpcio for the controls."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.abuse.abuser import ROOT
from tests.abuse.plain_server import THREADS
from tests.abuse.site import Prepared, Site, prepare, site

StartSite = Callable[..., Site]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session", params=["grpcio", "envoy"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def shared(engine: str, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A service that tests of a module abuse in turn; it ends in an orderly way after all of them."""
    settings = {"reflection": "true"}
    with site(engine, prepared, tmp_path_factory.mktemp(engine), settings) as made:
        yield made
        made.terminate()


@pytest.fixture
def start_site(engine: str, prepared: Prepared, tmp_path: Path) -> Iterator[StartSite]:
    """Start a service on the engine, with these settings beside the usual ones."""
    with ExitStack() as stack:

        def start(**settings: str) -> Site:
            return stack.enter_context(site(engine, prepared, tmp_path, settings))

        yield start


@pytest.fixture
def plain_server(request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[str]"]:
    """The process, with as many threads as the test asks for; its first line is its port."""
    threads = str(getattr(request, "param", THREADS))
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.abuse.plain_server", threads],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield child
    child.kill()
    child.communicate()
