"""Runs h2load: frames a gRPC request for it, and reads its output.

The module does not know what is measured. h2load knows HTTP only: a failed gRPC call is still a 200. So the
number of bytes of the answers is compared with that of an answer that is known to be right.
"""

import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
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
    """The shape of a load: connections, and calls in flight on each."""

    connections: int
    streams: int
    """The number of calls in flight on each connection."""

    @property
    def in_flight(self) -> int:
        return self.connections * self.streams


GRPC_SHAPE: Final = Shape(connections=4, streams=16)
SHARED_SHAPE: Final = Shape(connections=16, streams=4)
"""The shape of the load of each of two cores: the same number of calls in flight, on so many connections that
the kernel spreads them over the workers of a port."""
HTTP1_SHAPE: Final = Shape(connections=64, streams=1)
"""The same number of calls in flight; HTTP/1.1 has one on each connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The counts of one run of h2load."""

    calls: int
    bad: int
    """The number of calls that failed, had an error or timed out, by the rules of HTTP."""
    data_bytes: int
    """The number of bytes in the bodies of all answers."""


def require() -> None:
    """Raise BenchmarkError if h2load is not installed."""
    if shutil.which("h2load") is None:
        raise BenchmarkError("h2load is missing; install it with: apt-get install nghttp2-client")


def frame(message: bytes) -> bytes:
    """Return a request body with one uncompressed message (gRPC over HTTP/2, Length-Prefixed-Message)."""
    return struct.pack(">?I", False, len(message)) + message  # noqa: FBT003  # the flag "compressed"


def run_grpc(
    target: str, path: str, body: Path, *, seconds: float, cores: Sequence[int], shape: Shape = GRPC_SHAPE
) -> Outcome:
    """Call the method at `path` with the framed request in the file `body`, from all these cores."""
    headers = [text for header in _GRPC_HEADERS for text in ("-H", header)]
    arguments = [*headers, "-d", str(body), f"http://{target}{path}"]
    with ThreadPoolExecutor(len(cores)) as pool:
        found = list(pool.map(lambda core: _run(arguments, shape, seconds, core), cores))
    return Outcome(
        calls=sum(one.calls for one in found),
        bad=sum(one.bad for one in found),
        data_bytes=sum(one.data_bytes for one in found),
    )


def run_http1(
    url: str, headers: Sequence[str], body: Path | None = None, *, seconds: float, core: int
) -> Outcome:
    """GET the URL over HTTP/1.1, or POST the contents of the file `body`."""
    options = [text for header in headers for text in ("-H", header)]
    data = ["-d", str(body)] if body else []
    return _run(["--h1", *options, *data, url], HTTP1_SHAPE, seconds, core)


def require_good(outcome: Outcome, *, answer_bytes: int, in_flight: int) -> None:
    """Raise BenchmarkError unless every call got an answer as long as the right one.

    Of the calls that were in flight at the end, h2load may have counted the bytes but not the calls.
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
    """Read the output of h2load. Raises BenchmarkError if it has no counts."""
    requests, data = _REQUESTS.search(output), _DATA.search(output)
    if requests is None or data is None:
        raise BenchmarkError(f"h2load did not measure:\n{output[-1000:]}")
    return Outcome(
        calls=int(requests["succeeded"]),
        bad=sum(int(requests[name]) for name in ("failed", "errored", "timeout")),
        data_bytes=int(data["bytes"]),
    )
