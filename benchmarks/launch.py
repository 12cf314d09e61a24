"""Starts the service under test with the real command, as an operator would.

The module makes no calls to it.
"""

import contextlib
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.processes import BenchmarkError, Process
from tests.ports import reserve_address

_MODULE: Final = ("-m", "identity_service")
_COMMAND_SECONDS: Final = 60.0
_START_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A process of the service that serves."""

    target: str
    http_target: str
    """host:port of HTTP; "" = it does not listen for HTTP."""
    process: Process
    seconds: float
    """The number of seconds from the start until it served."""


class Launcher:
    """A launcher of the command `identity` on one store; its processes end with the stack."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        directory: Path,
        core: int,
        environment: Mapping[str, str],
        python: str = sys.executable,
    ) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("IDENTITY_")}
        self._stack = stack
        self._directory = directory
        self._core = core
        self._command = (python, *_MODULE)
        self._environment = inherited | dict(environment)

    def command(
        self, *arguments: str, stdin: str = "", environment: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Run `identity …`, and return its JSON output."""
        # Here and below in `directory`, out of sight of an identity.toml of whoever measures.
        run = subprocess.run(
            [*self._command, *arguments, "--json"],
            input=stdin,
            env=self._environment | dict(environment or {}),
            cwd=self._directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMMAND_SECONDS,
        )
        if run.returncode:
            raise BenchmarkError(f"identity {' '.join(arguments[:2])} failed:\n{run.stderr[-1000:]}")
        answer: dict[str, str] = json.loads(run.stdout)
        return answer

    def serve(
        self,
        name: str,
        *,
        target: str = "",
        settings: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        cores: Sequence[int] = (),
        http: bool = False,
    ) -> Running:
        """Start `identity serve`, and wait until it is healthy.

        Args:
            name: the name of its log.
            target: host:port to listen on; "" = a free port of this machine.
            settings: further settings, as environment variables.
            options: options of the command line.
            cores: the cores that it may use; () = that of the launcher.
            http: whether it listens for HTTP, too.
        """
        target, begun = target or reserve_address(), time.monotonic()
        http_target = reserve_address() if http else ""
        process = self._stack.enter_context(
            Process(
                name,
                [*self._command, "serve", "--listen", target, *options],
                cores=cores or [self._core],
                directory=self._directory,
                env=self._environment | {"IDENTITY_HTTP_LISTEN": http_target} | dict(settings or {}),
                cwd=self._directory,
            )
        )
        process.wait_until(functools.partial(_is_serving, target), _START_SECONDS)
        return Running(
            target=target,
            http_target=http_target,
            process=process,
            seconds=time.monotonic() - begun,
        )


def _is_serving(target: str) -> bool:
    with grpc.insecure_channel(target) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # untyped
        try:
            answer: health_pb2.HealthCheckResponse = health.Check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
