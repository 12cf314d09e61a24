"""Write the content of a store of version 0.1.0, as the text that `test_upgrade.py` loads.

    git archive 6c253e1 | tar x -C DIRECTORY     (the last commit of that format)
    cd DIRECTORY && python .../tests/conformance/data/make.py OUTPUT

It runs with the code of that version, its tests included. OUTPUT gets `v0_1_0.sql`, statements for an empty
SQLite file, and `v0_1_0.redis.jsonl`, one Redis command a line.
"""

import json
import sqlite3
import sys
import tempfile
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis

from identity_service.domain.ids import Epoch, Link, PrincipalId, SessionId, TokenId
from identity_service.domain.log import RecordKind
from identity_service.domain.store import Store
from identity_service.storage.redis import RedisStore
from identity_service.storage.sqlite import SqliteStore
from tests.conformance.samples import LATER, MUCH_LATER, a_client, a_key, a_session, a_user
from tests.fakes.clocks import FakeClock
from tests.redis_server import RedisServer


def fill(store: Store, clock: FakeClock) -> None:
    """Write an item of every kind that a store of version 0.1.0 can hold."""
    store.initialise(Epoch("e0"))
    store.log.heartbeat("p-old", timedelta(hours=24, minutes=10, seconds=20))
    store.records.create(a_client("billing"))
    store.records.create(a_user("u_1", "alice"))
    store.records.create(a_key("key-1"))
    for name in ("s-alive", "s-ended"):
        store.sessions.create(a_session(name))
    for number in range(5):
        store.facts.deny_token(TokenId(f"t{number}"), LATER)
    store.facts.end_session(SessionId("s-ended"), deny_until=LATER, end_until=MUCH_LATER)
    store.facts.raise_generation(PrincipalId("u_1"), above=0, request_id="r1", link=Link("raised"))
    store.records.delete(RecordKind.KEY, "key-1")
    store.single_use.consume("jti", LATER)
    clock.advance(timedelta(seconds=1))


def main(output: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        path, clock = Path(name) / "identity.db", FakeClock()
        with closing(SqliteStore.open(str(path), clock=clock)) as store:
            fill(store, clock)
        with closing(sqlite3.connect(path)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            lines = [*connection.iterdump(), f"PRAGMA user_version = {version};"]
        (output / "v0_1_0.sql").write_text("\n".join(lines) + "\n")

        server = RedisServer(Path(name))
        server.start()
        try:
            clock = FakeClock()
            with closing(RedisStore.connect(server.url, clock=clock)) as store:
                fill(store, clock)
            with closing(redis.Redis(port=server.port, decode_responses=True)) as client:
                commands = [json.dumps(command) for command in commands_of(client)]
        finally:
            server.stop()
        (output / "v0_1_0.redis.jsonl").write_text("\n".join(commands) + "\n")


def commands_of(client: Any) -> list[list[str]]:
    """Yield Redis commands that write all keys of a server again, without their expiry."""
    commands: list[list[str]] = []
    for key in sorted(client.scan_iter("*")):
        match client.type(key):
            case "string":
                commands.append(["SET", key, client.get(key)])
            case "hash":
                pairs = sorted(client.hgetall(key).items())
                commands.append(["HSET", key, *(word for pair in pairs for word in pair)])
            case "zset":
                pairs = client.zrange(key, 0, -1, withscores=True)
                commands.append(
                    ["ZADD", key, *(word for name, score in pairs for word in (repr(score), name))]
                )
            case _:
                for id_, fields in client.xrange(key):
                    commands.append(["XADD", key, id_, *(word for pair in fields.items() for word in pair)])
    return commands


if __name__ == "__main__":
    main(Path(sys.argv[1]))
