"""Fixtures for fault tests: one Redis, two service processes, and a proxy between each of them and Redis."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.proxy import Proxy
from tests.faults.report import Report
from tests.faults.site import Site
from tests.redis_server import RedisServer

FULL = int(os.environ.get("CRASH_ROUNDS", "0"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Single:
    """A running site on a single Redis: the Redis server, the two proxies and the two service processes."""

    folder: Path
    redis: RedisServer
    proxies: tuple[Proxy, ...]
    site: Site

    def conclude(self, fault: str, rounds: int) -> Report:
        return self.site.conclude(fault, rounds, self.folder)


Start = Callable[..., Single]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Yield a function that starts a site on a single Redis; the site is stopped when the test ends."""
    with ExitStack() as stack:

        def start(
            *,
            durability: str = "local",
            environments: Mapping[int, Mapping[str, str]] | None = None,
            environment: Mapping[str, str] | None = None,
            program: str | None = None,
            **options: str,
        ) -> Single:
            folder = tmp_path / "redis"
            folder.mkdir()
            redis = RedisServer(folder, program=program, environment=environment, **options)
            redis.start()
            stack.callback(redis.stop)
            proxies = tuple(Proxy(redis.port, seed=number) for number in range(2))
            for proxy in proxies:
                stack.callback(proxy.close)
            site = Site(
                tmp_path,
                redis.url,
                [f"redis://127.0.0.1:{proxy.port}/0" for proxy in proxies],
                durability=durability,
                environments=environments,
            )
            stack.enter_context(site.running())
            return Single(folder=tmp_path, redis=redis, proxies=proxies, site=site)

        yield start
