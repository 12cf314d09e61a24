"""A signing key in another process, as in an HSM: the service works as with keys in its own memory."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final

import grpc
import jwt
import pytest

from identity_service import bootstrap
from identity_service.composition import store_admin
from identity_service.domain.errors import SignerUnavailableError
from identity_service.domain.ids import KeyId
from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.ports import SigningKey
from identity_service.jose.sealing import Sealer
from identity_service.jose.vault import Vault
from identity_service.settings import Settings
from tests.patience import PATIENCE
from tests.rpc.administrator import Administrator
from tests.rpc.conftest import StartWorld
from tests.rpc.keys import keys, signed_with
from tests.rpc.world import World, failure

_PROGRAM: Final = """
import base64, json, sys
from identity_service.jose import keys
held = {}
for line in sys.stdin:
    asked = json.loads(line)
    if "make" in asked:
        made = keys.generate(asked["make"])
        held[made.key_id] = keys.load(made.private_jwk, made.algorithm, private=True)
        answer = {"key_id": made.key_id, "public": made.public_jwk}
    else:
        signature = held[asked["key_id"]].sign(base64.b64decode(asked["message"]))
        answer = {"signature": base64.b64encode(signature).decode()}
    print(json.dumps(answer), flush=True)
"""

pytestmark = pytest.mark.in_process


class Device:
    """A process that makes keys and signs with them, as an HSM does. No private key leaves it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.signatures = 0
        self.is_away = False

    def ask(self, **words: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(words)}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def sign(self, key_id: KeyId, message: bytes) -> bytes:
        self.signatures += 1
        text = base64.b64encode(message).decode()
        return base64.b64decode(self.ask(key_id=key_id, message=text)["signature"])

    def close(self) -> None:
        self._process.communicate(timeout=PATIENCE)


class DeviceKey:
    """A signing key in the device: the implementation of the port `SigningKey`."""

    def __init__(self, device: Device, stored: StoredKey) -> None:
        self.key_id, self.algorithm = stored.key_id, stored.algorithm
        self._device = device

    def sign(self, message: bytes) -> bytes:
        if self._device.is_away:
            raise SignerUnavailableError("the signing key cannot be reached now; try again")
        return self._device.sign(self.key_id, message)


class DeviceVault(Vault):
    """A vault whose signing keys are in the device. The store has a sealed reference to each of them.

    All other keys are as in `Vault`.
    """

    def __init__(self, sealer: Sealer, device: Device) -> None:
        super().__init__(sealer)
        self._device = device

    def make(self, purpose: KeyPurpose, algorithm: str, now: datetime) -> StoredKey:
        if purpose is not KeyPurpose.SIGN:
            return super().make(purpose, algorithm, now)
        made = self._device.ask(make=algorithm)
        return StoredKey(
            key_id=made["key_id"],
            purpose=purpose,
            algorithm=algorithm,
            public_jwk=made["public"],
            sealed=self._sealer.seal(f"device:{made['key_id']}", made["key_id"]),
            create_time=now,
            activate_time=now,
        )

    def open_signing(self, key: StoredKey) -> SigningKey:
        return DeviceKey(self._device, key)


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device()
    yield device
    device.close()


@pytest.fixture
def world(start_world: StartWorld, device: Device, monkeypatch: pytest.MonkeyPatch) -> World:
    def open_vault(settings: Settings) -> Vault:
        return DeviceVault(Sealer(settings.read_master_key()), device)

    for module in (bootstrap, store_admin):
        monkeypatch.setattr(module, "open_vault", open_vault)
    return start_world()


def test_tokens_are_signed_by_the_device_and_verified_with_the_public_key(
    world: World, device: Device
) -> None:
    before = device.signatures
    token = world.issue(world.new_client()).access_token

    assert device.signatures == before + 1
    assert world.reason(token) == ""
    assert device.signatures == before + 1, "verifying asks the device nothing"


def test_its_keys_rotate_and_are_retired_like_others(world: World) -> None:
    client, ana = world.new_client(), world.new_user()
    current, standby = keys(world)
    token, session = world.issue(client).access_token, world.issue(ana)
    world.clock.advance(days=30)
    world.service._use.rotation.maintain()
    assert signed_with(world.issue(client).access_token) == standby
    assert list(keys(world).values()) == ["VERIFYING", "SIGNING", "PENDING"]
    assert signed_with(token) == signed_with(session.access_token) == current

    admin = Administrator(world, world.admin_token(scopes=["identity.admin"]))
    leaked = world.issue(client).access_token
    assert world.reason(leaked) == ""
    admin.call("RetireKey", key_id=standby)
    assert world.reason(leaked) == "REVOKED"
    assert signed_with(world.issue(client).access_token) not in (current, standby)


def test_while_the_device_is_unreachable_nothing_is_signed_and_other_calls_succeed(
    world: World, device: Device
) -> None:
    client, ana = world.new_client(), world.new_user()
    session = world.issue(ana)
    device.is_away = True

    calls: list[Callable[[], object]] = [
        lambda: world.issue(client),
        lambda: world.issue(ana),
        lambda: world.refresh(session.refresh_token),
    ]
    for call in calls:
        with pytest.raises(grpc.RpcError) as error:
            call()
        found = failure(error.value)
        assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "SIGNER_UNAVAILABLE")
        assert found.retry_after
    assert world.reason(session.access_token) == ""

    device.is_away = False
    assert world.reason(world.refresh(session.refresh_token).access_token) == "", "it lost nothing"
    assert world.reason(world.issue(client).access_token) == ""


def test_nothing_in_the_store_signs(world: World) -> None:
    signing = [
        found.record
        for found in world.store.records.list_of(StoredKey, limit=100)
        if found.record.purpose is KeyPurpose.SIGN
    ]

    assert len(signing) == 2
    for key in signing:
        assert "d" not in json.loads(key.public_jwk or "")
        assert Vault(Sealer(world.settings.read_master_key()))._private(key) == f"device:{key.key_id}"
        assert jwt.PyJWK(json.loads(key.public_jwk or "")).key_id == key.key_id
