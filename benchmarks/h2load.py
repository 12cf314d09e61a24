"""h2load: frames a gRPC request for it, runs it, and reads what it says. Knows not what is measured.

h2load knows HTTP only: a failed gRPC call is still a 200. So the bytes of the answers are compared
with those of an answer that is known to be good.
"""

import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.processes import BenchmarkError, on_core

GRPC_PREFIX_BYTES: Final = 5
_GRPC_HEADERS: Final = ("content-type: application/grpc", "te: trailers")
_SLACK_SECONDS: Final = 30

_REQUESTS: Final = re.compile(
    r"^requests: .* (?P<done>\d+) done, (?P<succeeded>\d+) succeeded, (?P<failed>\d+) failed, "
    r"(?P<errored>\d+) errored, (?P<timeout>\d+) timeout$",
    re.MULTILINE,
)
_DATA: Final = re.compile(r"^traffic: .* \((?P<bytes>\d+)\) data$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How the load comes in."""

    connections: int
    streams: int
    """In flight on each connection."""

    @property
    def in_flight(self) -> int:
        return self.connections * self.streams


GRPC_SHAPE: Final = Shape(connections=4, streams=16)
HTTP1_SHAPE: Final = Shape(connections=64, streams=1)
"""As many in flight; HTTP/1.1 has one on each connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What h2load counted."""

    calls: int
    bad: int
    """Failed, errored or timed out, as HTTP knows it."""
    data_bytes: int
    """Of the bodies of all answers."""


def require() -> None:
    """Raises BenchmarkError where h2load is not installed."""
    if shutil.which("h2load") is None:
        raise BenchmarkError("h2load is missing; install it with: apt-get install nghttp2-client")


def frame(message: bytes) -> bytes:
    """A request body with one uncompressed message (gRPC over HTTP/2, Length-Prefixed-Message)."""
    return struct.pack(">?I", False, len(message)) + message  # noqa: FBT003  # the flag "compressed"


def run_grpc(target: str, path: str, body: Path, *, seconds: float, core: int) -> Outcome:
    """Call the method at `path` with the framed request in the file `body`."""
    headers = [text for header in _GRPC_HEADERS for text in ("-H", header)]
    return _run([*headers, "-d", str(body), f"http://{target}{path}"], GRPC_SHAPE, seconds, core)


def run_http1(
    url: str, headers: Sequence[str], body: Path | None = None, *, seconds: float, core: int
) -> Outcome:
    """GET the URL over HTTP/1.1, or POST what is in the file `body`."""
    options = [text for header in headers for text in ("-H", header)]
    data = ["-d", str(body)] if body else []
    return _run(["--h1", *options, *data, url], HTTP1_SHAPE, seconds, core)


def require_good(outcome: Outcome, *, answer_bytes: int, in_flight: int) -> None:
    """Raises BenchmarkError unless every call gave an answer as long as the good one.

    What was in flight when the time was up may have been counted as bytes and not as calls.
    """
    if outcome.bad or not outcome.calls:
        raise BenchmarkError(f"h2load: {outcome.bad} bad answers among {outcome.calls}")
    least = outcome.calls * answer_bytes
    most = (outcome.calls + in_flight) * answer_bytes
    if not least <= outcome.data_bytes <= most:
        raise BenchmarkError(
            f"h2load: {outcome.calls} answers of {answer_bytes} bytes were expected, that is {least} to "
            f"{most} bytes; {outcome.data_bytes} came"
        )


def _run(arguments: Sequence[str], shape: Shape, seconds: float, core: int) -> Outcome:
    # No --warm-up-time: h2load 1.52 counts its bytes but not its calls.
    load = [
        "-t",
        "1",
        "-c",
        str(shape.connections),
        "-m",
        str(shape.streams),
        "-D",
        f"{seconds * 1000:.0f}ms",
    ]
    with on_core(core):
        try:
            run = subprocess.run(
                ["h2load", *load, *arguments],
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds + _SLACK_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise BenchmarkError("h2load did not end") from error
    return parse(run.stdout + run.stderr)


def parse(output: str) -> Outcome:
    """Read what h2load printed. Raises BenchmarkError where it printed something else."""
    requests, data = _REQUESTS.search(output), _DATA.search(output)
    if requests is None or data is None:
        raise BenchmarkError(f"h2load did not measure:\n{output[-1000:]}")
    return Outcome(
        calls=int(requests["succeeded"]),
        bad=sum(int(requests[name]) for name in ("failed", "errored", "timeout")),
        data_bytes=int(data["bytes"]),
    )
