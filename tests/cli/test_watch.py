"""`identity watch` as a process: what it prints, how it resumes, how it ends."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest

from tests.e2e.process import Installation
from tests.patience import PATIENCE
from tests.ports import refusing_address, reserve_port


class Watching:
    """The command, and what it has printed so far."""

    def __init__(self, target: str, *words: str, **environ: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "identity_service", *(words or ("watch",)), "--target", target],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"} | environ,
        )
        self.out: Queue[str] = Queue()
        self.err: Queue[str] = Queue()
        self._threads = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream: Any, lines: "Queue[str]") -> None:
        for line in stream:
            lines.put(line.rstrip())

    def until(self, text: str, lines: "Queue[str] | None" = None) -> list[str]:
        """What is printed up to a line with this text."""
        seen: list[str] = []
        while not (seen and text in seen[-1]):
            try:
                seen.append((lines or self.out).get(timeout=PATIENCE))
            except Empty:
                raise AssertionError(f"{text!r} was not printed; printed: {seen}") from None
        return seen

    def end(self, number: signal.Signals) -> int:
        os.kill(self.process.pid, number)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def watching(target: str, *words: str, **environ: str) -> Iterator[Watching]:
    """A command that goes on until it is ended: `watch`, unless words name another."""
    watching = Watching(target, *words, **environ)
    try:
        yield watching
    finally:
        watching.close()


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(folder=tmp_path, store=f"sqlite:///{tmp_path / 'identity.db'}")


def test_it_shows_changes_and_resumes_after_the_service_was_away(installation: Installation) -> None:
    admin = installation.json("init")
    secret = (admin["client_id"], admin["client_secret"])
    port = reserve_port()
    with installation.serve(port=port) as service, watching(service.target, "watch", "--json") as watch:
        lines = [json.loads(line) for line in watch.until("known")]
        assert [line["event"] for line in lines] == ["restarted", "keys", "known"]
        with service.client() as client:
            tokens = client.issue_with_secret(*secret, scopes=["identity.revoke"])
            client.revoke_token(tokens.access_token)
        (denied, known) = (json.loads(line) for line in watch.until("known"))
        assert (denied["event"], denied["id"]) == ("token_denied", tokens.token_id)

        assert service.terminate() == 0
        watch.until("trying again", watch.err)
        with installation.serve(port=port) as again, again.client() as client:
            bearer = client.issue_with_secret(*secret, scopes=["identity.revoke"]).access_token
            with again.client(bearer=bearer) as allowed:
                allowed.revoke_subject("ana")
            seen = [json.loads(line) for line in watch.until("generation_raised")]
            assert seen[-1]["id"] == "ana"
        assert watch.end(signal.SIGINT) == 0
    assert known["revision"]


def test_for_people_it_prints_a_line_for_each_and_heartbeats_where_asked(installation: Installation) -> None:
    installation.json("init")
    with installation.serve() as service, watching(service.target, "watch", "--verbose") as watch:
        printed = watch.until("heartbeat")
        assert any("keys" in line and "ES256 signing" in line for line in printed)
        assert watch.end(signal.SIGTERM) == 0


def test_without_a_service_it_says_so_and_ends() -> None:
    with refusing_address() as target, watching(target) as watch:
        assert watch.process.wait(PATIENCE) == 4
        watch.until("identity:", watch.err)
