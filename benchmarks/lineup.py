"""The line-up: starts the servers that the chosen sides need, and builds the sides. Knows no bar's limit."""

import contextlib
import functools
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from benchmarks import bars, peers, redis_server, service
from benchmarks.measure import Side
from benchmarks.processes import Cores, Process
from benchmarks.service import DENIALS, SESSIONS, Service
from benchmarks.sides import GrpcSide, HttpSide, LoadSide

LOOPBACK: Final = "127.0.0.1"


class Lineup:
    """Each server is started when the first side needs it, and ended with the stack."""

    def __init__(
        self, stack: contextlib.ExitStack, cores: Cores, directory: Path, say: Callable[[str], None]
    ) -> None:
        self._stack = stack
        self._cores = cores
        self._directory = directory
        self._say = say

    def sides(self, names: Iterable[str]) -> dict[str, Side]:
        """The sides of these names, ready to be measured, in the order of the report."""
        wanted = frozenset(names)
        builders: Mapping[str, Callable[[], Side]] = {
            bars.EMPTY: self._empty,
            bars.VERIFY: self._verify,
            bars.ISSUE: self._issue,
            bars.REFRESH: self._refresh,
            bars.FASTAPI: self._fastapi,
            bars.LOAD_CEILING: self._load_ceiling,
        }
        return {name: build() for name, build in builders.items() if name in wanted}

    @functools.cached_property
    def _redis_url(self) -> str:
        return self._stack.enter_context(redis_server.serve(self._directory, self._cores.load))

    @functools.cached_property
    def _yardstick(self) -> str:
        return f"{LOOPBACK}:{self._peer('yardstick', peers.YARDSTICK)}"

    @functools.cached_property
    def _service(self) -> Service:
        self._say("the service starts")
        return self._stack.enter_context(service.serve(self._directory, self._redis_url, self._cores))

    def _empty(self) -> Side:
        return GrpcSide(
            title="empty RPC",
            target=self._yardstick,
            path=peers.YARDSTICK_PATH,
            request=b"",
            check=lambda answer: f"{len(answer)} bytes, none expected" if answer else "",
            body=self._directory / "empty.bin",
            cores=self._cores,
        )

    def _verify(self) -> Side:
        running = self._service
        self._say(f"{DENIALS:,} token ids are denied")
        running.deny(DENIALS)
        request, check = running.verify_call()
        return self._service_side("Verify", f"Verify, {DENIALS:,} live denials", request, check)

    def _issue(self) -> Side:
        request, check = self._service.issue_call()
        return self._service_side("Issue", "Issue, client secret, ES256, Redis", request, check)

    def _service_side(
        self, method: str, title: str, request: bytes, check: Callable[[bytes], str]
    ) -> GrpcSide:
        return GrpcSide(
            title=title,
            target=self._service.target,
            path=f"/identityapi.v1.IdentityService/{method}",
            request=request,
            check=check,
            body=self._directory / f"{method}.bin",
            cores=self._cores,
        )

    def _refresh(self) -> Side:
        running = self._service
        self._say(f"{SESSIONS:,} sign-ins")
        return LoadSide(
            title=f"Refresh, {SESSIONS:,} sessions, Redis",
            target=running.target,
            cores=self._cores,
            tokens=running.sign_in(SESSIONS),
        )

    def _load_ceiling(self) -> Side:
        return LoadSide(
            title="empty RPC, by the load of Refresh", target=self._yardstick, cores=self._cores, tokens=None
        )

    def _fastapi(self) -> Side:
        ready = json.loads(self._peer("fastapi", peers.FASTAPI, self._redis_url))
        return HttpSide(
            title="FastAPI + PyJWT + Redis",
            url=f"http://{LOOPBACK}:{ready['port']}{peers.FASTAPI_PATH}",
            authorization=f"Bearer {ready['token']}",
            check=lambda answer: (
                "" if json.loads(answer)["sub"] == peers.FASTAPI_SUBJECT else "another subject"
            ),
            cores=self._cores,
        )

    def _peer(self, name: str, module: str, *arguments: str) -> str:
        """Start a peer; what it prints once it serves."""
        command = [sys.executable, "-m", module, *arguments]
        process = Process(name, command, core=self._cores.server, directory=self._directory)
        return self._stack.enter_context(process).first_line()
