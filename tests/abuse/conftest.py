"""Fixtures for abuse tests: the service on both engines, and a plain grpcio server for comparison."""

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
    """Yield one service for all tests of a module; at the end it must terminate without an error."""
    settings = {"reflection": "true"}
    with site(engine, prepared, tmp_path_factory.mktemp(engine), settings) as made:
        yield made
        made.terminate()


@pytest.fixture
def start_site(engine: str, prepared: Prepared, tmp_path: Path) -> Iterator[StartSite]:
    """Yield a function that starts a service with additional settings."""
    with ExitStack() as stack:

        def start(**settings: str) -> Site:
            return stack.enter_context(site(engine, prepared, tmp_path, settings))

        yield start


@pytest.fixture
def plain_server(request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[str]"]:
    """Yield the process of a plain server, which prints its port as its first line.

    The parameter of the fixture is the server's number of threads.
    """
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
