"""Tests in which Redis is emptied under load, and the operator restores clients, users and signing keys.

The processes must repair all acknowledged revocations, which the restored records do not contain.
"""

import pytest
import redis

from tests.faults.conftest import FULL, Start
from tests.faults.proxy import CLEAR, Impairment
from tests.faults.record_dumps import dump_records, restore_records

ROUNDS = FULL // 10 or 2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 15 * ROUNDS)]


@pytest.mark.parametrize("cut_off", [False, True], ids=["all-see-it", "one-is-cut-off"])
def test_revoked_tokens_stay_revoked_when_redis_was_emptied(start: Start, cut_off: bool) -> None:
    single = start()
    with single.site.load() as load, redis.Redis(port=single.redis.port) as operator:
        for _ in range(ROUNDS):
            load.run(0.5)
            if cut_off:
                single.proxies[1].set(Impairment(silent=True))
                load.run(0.5)
            records = dump_records(operator)
            operator.flushall()
            load.run(1.0)
            restore_records(operator, records)
            single.proxies[1].set(CLEAR)
            single.site.recover()
    report = single.conclude("FLUSHALL" + (", one process cut off" if cut_off else ""), ROUNDS)
    assert report.counts["issue: NO_SIGNING_KEY"] > 0
    assert report.repaired >= report.revocations // 2
    report.require_repaired()
