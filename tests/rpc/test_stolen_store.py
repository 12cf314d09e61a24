"""An attacker with a copy of the store: the service accepts no value of the store as a credential."""

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from identity_service.domain.keys import StoredKey
from identity_service.jose.sealing import Sealer
from identity_service.jose.vault import Vault
from identity_service.storage.redis import RedisStore
from tests.rpc.world import PASSWORD, World

pytestmark = pytest.mark.in_process


@pytest.fixture
def stolen(world: World, tmp_path: Path, request: pytest.FixtureRequest) -> "Stolen":
    return Stolen(request.getfixturevalue("redis_server").url if _is_redis(world) else "", tmp_path)


class Stolen:
    """The complete content of a store."""

    def __init__(self, url: str, folder: Path) -> None:
        """Read the Redis at `url`, or the SQLite file in `folder` if `url` is empty."""
        self._url = url
        self._folder = folder

    def read(self) -> bytes:
        if not self._url:
            return b"\n".join(path.read_bytes() for path in self._folder.glob("identity.db*"))
        with redis.Redis.from_url(self._url) as thief:
            return b"\n".join(part for key in thief.scan_iter() for part in (key, *_values(thief, key)))


def _values(thief: Any, key: bytes) -> list[bytes]:
    """Return the values of a Redis key. The command DUMP would compress them, which would hide secrets."""
    match thief.type(key):
        case b"string":
            found = thief.get(key)
        case b"hash":
            found = thief.hgetall(key)
        case b"set":
            found = thief.smembers(key)
        case b"zset":
            found = thief.zrange(key, 0, -1)
        case b"stream":
            found = thief.xrange(key)
        case other:
            raise AssertionError(f"{key!r} is a {other!r}")
    return list(_texts(found))


def _texts(value: Any) -> list[bytes]:
    match value:
        case bytes():
            return [value]
        case dict():
            return [text for pair in value.items() for part in pair for text in _texts(part)]
        case _:
            return [text for part in value for text in _texts(part)]


def _is_redis(world: World) -> bool:
    return isinstance(world.store, RedisStore)


def private_members(world: World) -> list[str]:
    """Return the private part (`k` or `d` of the JWK) of every key of the service."""
    vault = Vault(Sealer(world.settings.read_master_key()))
    found = world.store.records.list_of(StoredKey, limit=100)
    keys = [json.loads(vault._private(entry.record)) for entry in found]
    return [key["k"] if key["kty"] == "oct" else key["d"] for key in keys]


def test_the_store_holds_no_password_no_secret_no_token_and_no_open_key(world: World, stolen: Stolen) -> None:
    client, user = world.new_client(), world.new_user()
    signed_in = world.issue(user)
    renewed = world.refresh(signed_in.refresh_token)
    secrets = [PASSWORD, client.credential.client_secret.client_secret, *private_members(world)]
    for tokens in (world.issue(client), signed_in, renewed):
        secrets += [tokens.access_token, tokens.access_token.rpartition(".")[2]]
    for tokens in (signed_in, renewed):
        secrets += [tokens.refresh_token, tokens.refresh_token[-42:]]  # the MAC ends it
    world.revoke(token=renewed.refresh_token)

    held = stolen.read()

    for known in (client.id, user.id, signed_in.session_id, "$argon2id$"):
        assert known.encode() in held, "the store is really read here"
    assert len(secrets) >= 14
    assert [secret for secret in secrets if secret.encode() in held] == []
