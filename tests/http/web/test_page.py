"""The page of `examples/web` in a real Chromium, with its Content-Security-Policy, on both engines."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.http.libraries.programs import install_npm, require
from tests.http.site import Site
from tests.http.web.chromium import Colours, Page, browsing
from tests.http.web.conftest import EXAMPLE, PAGE_ORIGIN, PAGE_PORT
from tests.patience import PATIENCE
from tests.ports import reserve_port
from tests.rpc.world import API, PASSWORD

pytestmark = pytest.mark.settings(web_origins=(PAGE_ORIGIN,))

COLOURS: tuple[Colours, ...] = ("light", "dark")
NOT_REVOKED = "verified: "
MARKUP = "<img/src=x/onerror=document.title='run'>"


@dataclass(frozen=True)
class Visitor:
    """A user who operates the page."""

    page: Page

    def sign_in(self, username: str = "ana", password: str = PASSWORD) -> None:
        self.page.fill("#username", username)
        self.page.fill("#password", password)
        self.page.click("#sign-in button")

    def signed_in(self, username: str = "ana") -> None:
        self.sign_in(username)
        self.page.await_text("#status", "Signed in as ")


@contextmanager
def served(site: Site, libraries: Path, port: int) -> Iterator[str]:
    """Run the program that serves the page until the block ends; yield the origin of the page."""
    command = [sys.executable, str(EXAMPLE / "serve.py"), "--service", f"http://{site.target}"]
    command += ["--audience", API, "--port", str(port), "--libraries", str(libraries / "node_modules")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[0]
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all tests, since starting it takes seconds."""
    require("node", "npm", "chromium")
    folder = tmp_path_factory.mktemp("browser")
    source = Path(__file__).parent / "browser"
    (folder / "drive.mjs").write_bytes((source / "drive.mjs").read_bytes())
    with browsing(install_npm(source, folder), shutil.which("chromium") or "chromium") as found:
        yield found


@pytest.fixture
def page(browser: Page) -> Page:
    browser.renew()
    return browser


@pytest.fixture
def visitor(site: Site, libraries: Path, page: Page) -> Iterator[Visitor]:
    """A user who has opened the page. The service has the user ana."""
    site.world.new_user()
    with served(site, libraries, PAGE_PORT) as origin:
        page.open(origin)
        yield Visitor(page)


def test_a_user_takes_all_seven_steps(visitor: Visitor, tmp_path: Path) -> None:
    """The test also makes the pictures in `docs/concepts.md`.

    They are kept if the environment variable `PICTURES` names a folder, with which a developer renews them by
    hand.
    """
    page = visitor.page
    visitor.signed_in()
    first = page.text("#step-3 span.payload")
    page.click("#verify")
    page.await_text("#step-5 .text", NOT_REVOKED)
    page.click("#refresh")
    page.await_text("#step-6 .text", "of the same session")
    page.click("#revoke")

    assert page.await_text("#step-7 .bad", "REVOKED")
    assert page.count("li.done") == 7
    assert page.text("#step-3 span.payload") != first
    assert page.complaints() == []
    folder = Path(os.environ.get("PICTURES") or tmp_path)
    backgrounds = set()
    for colours in COLOURS:
        page.use(colours)
        page.screenshot(folder / f"jwt-steps-{colours}.png")
        backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(backgrounds) == 2


def test_the_token_is_in_no_storage_and_the_password_is_forgotten(visitor: Visitor) -> None:
    visitor.signed_in()

    kept = visitor.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]")
    assert kept == [0, 0, ""]
    assert visitor.page.evaluate("document.getElementById('password').value") == ""


def test_a_wrong_password_is_refused_with_a_reason(visitor: Visitor) -> None:
    visitor.sign_in(password="wrong")

    assert "Unauthenticated" in visitor.page.await_text("#status", ":")


@pytest.mark.settings(web_origins=(PAGE_ORIGIN,), attempts_per_username=1)
def test_after_too_many_wrong_passwords_the_right_one_is_refused_for_a_while(visitor: Visitor) -> None:
    visitor.sign_in(password="wrong")
    visitor.page.await_text("#status", "Unauthenticated")
    visitor.sign_in()

    assert visitor.page.await_text("#status", "ResourceExhausted")
    assert visitor.page.count("#step-3.done") == 0


def test_an_expired_token_is_refused(site: Site, visitor: Visitor) -> None:
    visitor.signed_in()
    site.world.clock.advance(minutes=16)
    visitor.page.click("#verify")

    assert visitor.page.await_text("#step-5 .bad", "EXPIRED")


def test_a_token_that_was_revoked_elsewhere_is_refused(site: Site, visitor: Visitor) -> None:
    visitor.signed_in()
    site.world.revoke(site.world.admin_token(), subject=site.world.user().id)
    visitor.page.click("#verify")

    assert visitor.page.await_text("#step-5 .bad", "REVOKED")


def test_a_page_of_a_foreign_origin_is_refused(site: Site, libraries: Path, page: Page) -> None:
    site.world.new_user()
    with served(site, libraries, reserve_port()) as origin:
        page.open(origin)
        Visitor(page).sign_in()

        assert f"IDENTITY_WEB_ORIGINS={origin}?" in page.await_text("#status", "No answer of http://")
        assert page.count("li.done") == 1  # the refusal


def refused(*options: str) -> str:
    """Run the program that serves the page, which must refuse to start; return its error output."""
    command = [sys.executable, str(EXAMPLE / "serve.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2
    return done.stderr


def test_a_page_without_its_libraries_is_not_served(tmp_path: Path) -> None:
    assert "run `npm ci --ignore-scripts` in" in refused("--libraries", str(tmp_path / "missing"))


def test_a_page_on_a_port_that_is_taken_is_not_served(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = refused("--libraries", str(tmp_path), "--port", str(taken.getsockname()[1]))

    assert "Address already in use): name another one with --port" in said


def test_the_name_of_a_user_is_never_markup(site: Site, visitor: Visitor) -> None:
    site.world.new_user(MARKUP)
    visitor.signed_in(MARKUP)
    visitor.page.click("#verify")
    visitor.page.await_text("#step-5 .text", NOT_REVOKED)

    assert MARKUP in visitor.page.text("#step-1 .text")
    assert visitor.page.count("main img") == 0
    assert visitor.page.evaluate("document.title") != "run"
