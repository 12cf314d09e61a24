"""The state machine of clients and faults, run on Redis."""

from typing import Final

from tests.machine.redis_target import WRONG, RedisTarget
from tests.machine.running import MARKS, ON_EACH_STORE, run
from tests.redis_server import RedisServer

ON_REDIS: Final = {
    "clock: store",
    "older copy restored",
    "crash of everything",
    *(f"set up wrongly: {name}" for name in WRONG),
}

pytestmark = MARKS


def test_nothing_revoked_is_accepted_again_on_redis(redis_server: RedisServer) -> None:
    run(lambda clock: RedisTarget(redis_server, clock), ON_EACH_STORE | ON_REDIS)
