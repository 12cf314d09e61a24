"""Every block of README and docs that is marked as runnable is run as a reader would paste it.

The second word after the fence is the mark: a block with `runnable` ends by itself; one with `serves` runs
until it is stopped, and the blocks after it run in another terminal; one with `follows` has commands that
print events until they are stopped. A word with a dot is the name of a file with this content.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

import grpc
import pytest

from tests.docs.recipes import DOCS, INSTALLED
from tests.e2e.process import CHEAP_PASSWORDS, MASTER_KEY
from tests.patience import PATIENCE, until
from tests.ports import reserve_port
from tests.redis_server import RedisServer

_BLOCK: Final = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXPORT: Final = re.compile(r"^export .*$", re.MULTILINE)
_SECRET: Final = re.compile(r"client_secret +(\S+)")
_PASSWORD: Final = "a password that the reader types"
_KINDS: Final = ("runnable", "serves", "follows")
_STOPPED: Final = (0, -signal.SIGINT, 128 + signal.SIGINT)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the mark, such as `runnable`, and the code of each code block of a page that has a mark."""
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


PAGES: Final = [page for page in (DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))) if blocks(page)]


def test_every_mark_is_read() -> None:
    """If `blocks` missed a mark, such as one after two spaces, no test would run that block."""
    marks = re.compile(rf"^[ \t>]*(?:```|~~~)[^\n`]*\b(?:run+able|{'|'.join(_KINDS)})\b", re.MULTILINE)
    pages = [DOCS.parent / "README.md", *DOCS.rglob("*.md")]

    assert {page: len(marks.findall(page.read_text(encoding="utf-8"))) for page in pages} == {
        page: sum(word in _KINDS for word, _ in blocks(page)) for page in pages
    }


class Terminal:
    """A shell in its own folder, with the store and the port of this test."""

    def __init__(self, folder: Path, redis: RedisServer, identity: Path) -> None:
        """Prepare the folder and the environment. `identity` is the path of the program `identity`."""
        self.folder = folder
        self.target = f"127.0.0.1:{reserve_port()}"
        (folder / "typed").write_text(f"{_PASSWORD}\n" * 2)
        self.exports: list[str] = []
        self.places = {"redis://127.0.0.1:6379/0": redis.url, "127.0.0.1:50051": self.target}
        self.environment = {
            "HOME": str(folder),
            "PATH": f"{identity.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "IDENTITY_STORE": redis.url,
            "IDENTITY_LISTEN": self.target,
            "IDENTITY_TARGET": self.target,
            **CHEAP_PASSWORDS,
        }

    def start(self, code: str, output: IO[bytes]) -> "subprocess.Popen[bytes]":
        """Start a block in a shell that has the variables exported by earlier blocks."""
        for place, here in self.places.items():
            code = code.replace(place, here)
        script = "\n".join([*self.exports, code])
        self.exports += _EXPORT.findall(code)
        with (self.folder / "typed").open("rb") as typed:
            return subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=self.folder,
                env=self.environment,
                stdin=typed,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # without a terminal, from which a password would be read
            )

    def run(self, code: str) -> str:
        """Run a block that ends by itself and must succeed; return its output."""
        path = self.folder / "printed"
        with path.open("wb") as output:
            ended = self.start(code, output).wait(PATIENCE)
        printed = path.read_text()
        assert ended == 0, f"{code}\n{printed}"
        if "identity init" in code and (found := _SECRET.search(printed)):
            self.places["IDENTITY_CLIENT_SECRET=…"] = f"IDENTITY_CLIENT_SECRET={found[1]}"
            self.environment |= {"IDENTITY_CLIENT_ID": "admin", "IDENTITY_CLIENT_SECRET": found[1]}
        return printed

    @contextmanager
    def serving(self, code: str) -> Iterator[None]:
        """Run a block that serves, until the `with` statement of the test ends."""
        path = self.folder / "service.log"
        with path.open("wb") as output:
            process = self.start(f"exec {code}", output)
        try:
            with grpc.insecure_channel(self.target, [("grpc.enable_http_proxy", 0)]) as channel:
                grpc.channel_ready_future(channel).result(PATIENCE)
            until(lambda: "serving on" in path.read_text())
            yield
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0, path.read_text()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait(PATIENCE)

    def follow(self, code: str) -> None:
        """Run the commands of a block in parallel, until each of them has printed an event."""
        commands = code.strip().splitlines()
        paths = [self.folder / f"events-{number}" for number in range(len(commands))]
        processes = []
        for command, path in zip(commands, paths, strict=True):
            with path.open("wb") as output:
                processes.append(self.start(f"exec {command}", output))
        number = 0
        try:
            while not all(path.stat().st_size for path in paths):
                assert all(process.poll() is None for process in processes), [p.read_text() for p in paths]
                number += 1
                self.run(f"identity client create followed-{number} --audience api")
                self.run(f"identity client delete followed-{number} --yes")
                assert number < PATIENCE, "no event was printed"
        finally:
            for process in processes:
                process.send_signal(signal.SIGINT)
            ended = [process.wait(PATIENCE) for process in processes]
        assert all(code in _STOPPED for code in ended), (ended, [path.read_text() for path in paths])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_runnable_blocks_of_a_page_work_as_they_are_written(
    page: Path, tmp_path: Path, redis_server: RedisServer, identity: Path
) -> None:
    """The README uses the installed program; other pages use one that forks commands, which is faster."""
    redis_server.flush()
    terminal = Terminal(tmp_path, redis_server, INSTALLED if page.name == "README.md" else identity)
    marked = blocks(page)
    if not any("identity init" in code for _, code in marked):
        terminal.environment["IDENTITY_MASTER_KEY"] = MASTER_KEY
        terminal.run("identity init")
    if not any(kind == "serves" for kind, _ in marked):
        marked.insert(0, ("serves", "identity serve\n"))

    def paste(following: list[tuple[str, str]]) -> None:
        for number, (kind, code) in enumerate(following):
            match kind:
                case "runnable":
                    terminal.run(code)
                case "follows":
                    terminal.follow(code)
                case "serves":
                    with terminal.serving(code):
                        paste(following[number + 1 :])
                    return
                case name:
                    (tmp_path / name).write_text(code)

    paste(marked)


def test_every_mark_is_known_and_the_first_page_has_one_of_each() -> None:
    kinds = {kind for page in PAGES for kind, _ in blocks(page)}
    assert {kind for kind in kinds if "." not in kind} == set(_KINDS)
    assert {kind for kind, _ in blocks(DOCS.parent / "README.md")} == set(_KINDS)
