"""The answers of a service whose store was moved: they name the new store."""

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from identity_service.domain.copying import Fence
from identity_service.domain.errors import StoreFencedError
from identity_service.domain.ids import Epoch
from tests.patience import until
from tests.rpc.conftest import STORES, address, settings_for_tests
from tests.rpc.restartable import Restartable
from tests.rpc.world import Failure, failure

FENCE = Fence(target="redis://other.example:6379/0", epoch=Epoch("e1"))


@pytest.fixture(params=STORES)
def process(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Restartable]:
    process = Restartable(settings_for_tests(), address(request.param, tmp_path, request).open)
    process.start()
    yield process
    process.stop()


def refusal(call: Callable[[], object]) -> Failure:
    with pytest.raises(grpc.RpcError) as error:
        call()
    return failure(error.value)


def test_every_answer_names_the_new_store_until_the_fence_is_lifted(process: Restartable) -> None:
    world = process.world
    principal = world.new_client()
    issued, admin = world.issue(principal), world.admin_token()
    process.store.copying.fence(FENCE)

    revoked = refusal(lambda: world.revoke(admin, token_id=issued.token_id))
    world.clock.age(world.settings.max_staleness.total_seconds() + 1)
    until(lambda: FENCE.target in world.service._replica.status)
    verified = refusal(lambda: world.verify(issued.access_token))

    for found in (revoked, verified):
        assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_MOVED")
        assert FENCE.target in found.message
    process.stop()
    with pytest.raises(StoreFencedError, match="restart the service"):
        process.start()

    store = process._open_store(process.clock)
    store.copying.lift_fence()
    store.close()
    process.start()
    assert process.world.reason(issued.access_token) == ""
    process.world.revoke(process.world.admin_token(), token_id=issued.token_id)
    assert process.world.reason(issued.access_token) == "REVOKED"
