"""Measures the gain of a second worker on a second core: bar S14.

On each engine, one service is one worker on the first core, the other is two workers on both cores. In both
cases the same load runs on both cores, half of it on each. Every service listens for HTTP, too.
"""

from pathlib import Path
from typing import Final

from benchmarks import load, names, redis_server, service
from benchmarks.h2load import SHARED_SHAPE
from benchmarks.launch import Running
from benchmarks.measure import FAILURES, Bench, Findings, alternate, reason_of
from benchmarks.pace import bare_signatures
from benchmarks.service import Service
from benchmarks.sides import GrpcSide

COUNTS: Final = (1, 2)
FIGURES: Final = frozenset(names.workers(engine, count) for engine in names.ENGINES for count in COUNTS)
_PATIENCE: Final = 30.0
_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENING: Final = "0A"
"""The state of a listening socket in these tables."""


def trial(bench: Bench) -> Findings:
    """Measure both engines in turn with one worker and with two."""
    root, found, both = bench.root / "two-cores", Findings(), (bench.cores.server, bench.cores.load)
    root.mkdir()
    with (
        redis_server.serve(root, bench.cores.load) as url,
        service.serve(root, url, bench.cores) as running,
    ):
        sides = dict[str, GrpcSide]()
        for engine in names.ENGINES:
            for count in COUNTS:
                name = names.workers(engine, count)
                bench.say(f"{name}: the service starts")
                try:
                    workers = _serve(running, name, engine, both[:count])
                except FAILURES as error:
                    found.absent[name] = reason_of(error)
                    continue
                sides[name] = _side(bench, running, workers, name, root)
        found.add(alternate(sides, bench, bare_signatures(*both)))
    return found


def _serve(running: Service, name: str, engine: str, cores: tuple[int, ...]) -> Running:
    """Start a worker for each core, and wait until every worker listens."""
    options = ("--workers", str(len(cores)), "--engine", engine)
    workers = running.launcher.serve(name, options=options, cores=cores, http=True)
    workers.process.wait_until(lambda: listeners(workers.target) >= len(cores), _PATIENCE)
    return workers


def listeners(target: str) -> int:
    """Return the number of sockets that listen on the port of a target (proc_net_tcp(5))."""
    port = f":{int(target.rpartition(':')[2]):04X}"
    rows = [line.split() for table in _TABLES for line in table.read_text().splitlines()[1:]]
    return sum(row[1].endswith(port) and row[3] == _LISTENING for row in rows)


def _side(bench: Bench, running: Service, workers: Running, name: str, root: Path) -> GrpcSide:
    path = f"{load.SERVICE}Verify"
    return GrpcSide(
        title=f"Verify, {name.replace('-', ' ')}, load on both cores",
        target=workers.target,
        path=path,
        request=running.verify_request().SerializeToString(),
        check=service.CHECKS[path],
        body=root / f"{name}.bin",
        cores=bench.cores,
        load_cores=(bench.cores.server, bench.cores.load),
        shape=SHARED_SHAPE,
    )
