"""Tests of the reason with which each token is accepted or rejected after Redis was emptied.

`test_emptied.py` counts the answers that were wrong for a moment; this module checks the final answers.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
import redis

from identity_client import IdentityClient, IdentityError, Verified
from identityapi.v1 import identity_service_pb2 as pb
from tests.e2e.process import Installation, Running
from tests.faults.conftest import FULL, Single, Start
from tests.faults.load import PASSWORD
from tests.faults.proxy import CLEAR, Impairment
from tests.faults.record_dumps import dump_records, restore_records
from tests.faults.report import BACK_WITHIN
from tests.patience import until

ROUNDS = FULL // 20 or 1
_BATCH = 1000
_SILENCE = ("UNAVAILABLE", "NO_SIGNING_KEY")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 20 * ROUNDS)]


@pytest.mark.parametrize("cut_off", [False, True], ids=["all-see-it", "one-is-cut-off"])
def test_an_emptied_redis_makes_every_process_silent_and_its_records_make_each_answer_right_again(
    start: Start, cut_off: bool
) -> None:
    single = start()
    live = [sign_in(single) for _ in range(3)]
    recovery = 0.0
    with redis.Redis(port=single.redis.port) as operator, single.site.load() as load:
        for _ in range(ROUNDS):
            load.run(0.5)
            records = dump_records(operator)
            if cut_off:
                single.proxies[1].set(Impairment(silent=True))
            operator.flushall()
            await_silence(single.site.services[0], live[0])
            single.proxies[1].set(CLEAR)  # the second process notices only now
            await_silence(single.site.services[1], live[0])
            restore_records(operator, records)
            recovery = max(recovery, single.site.recover())

    revoked = [known.token for known in single.site.history.revocations]
    folder = single.folder / "late"
    folder.mkdir()
    with Installation(folder, single.redis.url, forked=True).serve() as late:
        services = [*single.site.services, late]
        # During a repair a revoked token may be verified: that is counted. Afterwards it is a failure.
        verified = sum(said(service, revoked)["verified"] for service in services)
        answers = [settled(service, revoked) for service in services]
        controls = [said(service, live) for service in services]
    violations = len(single.site.history.violations)
    sys.stdout.write(
        f"\nfault=emptied{'-cut-off' if cut_off else ''} rounds={ROUNDS} revocations={len(revoked)} "
        f"verified={verified} violations={violations} recovery_s={recovery:.2f}\n"
    )
    assert revoked
    assert answers == [Counter(REVOKED=len(revoked))] * 3
    assert controls == [Counter(verified=len(live))] * 3
    assert single.site.history.mistakes == []
    assert recovery < BACK_WITHIN


def sign_in(single: Single) -> str:
    """Sign in and return the access token; it stays valid, because the load revokes only its own sessions."""
    with single.site.services[0].client() as client:
        return client.issue_with_password("ana", PASSWORD).access_token


def await_silence(service: Running, token: str) -> None:
    """Wait until this process refuses to issue and to verify, with the reason NO_SIGNING_KEY."""
    with service.client(max_attempts=1) as client:
        calls: list[Callable[[], object]] = [
            lambda: client.issue_with_password("ana", PASSWORD),
            lambda: client.verify(token, any_audience=True),
        ]
        for call in calls:
            until(lambda call=call: refusal(call) == _SILENCE, BACK_WITHIN)  # type: ignore[misc]


def refusal(call: Callable[[], object]) -> tuple[str, str] | None:
    try:
        call()
    except IdentityError as error:
        return error.code.name, error.reason
    return None


def settled(service: Running, tokens: Sequence[str]) -> Counter[str]:
    """Return the counts of `said` once no token is accepted, or after `BACK_WITHIN` seconds."""
    deadline = time.monotonic() + BACK_WITHIN
    while (counts := said(service, tokens))["verified"] and time.monotonic() < deadline:
        time.sleep(0.02)
    return counts


def said(service: Running, tokens: Sequence[str]) -> Counter[str]:
    """Return how many tokens were verified, and how many were rejected for each reason."""
    with service.client() as client:
        return Counter(
            answer
            for start in range(0, len(tokens), _BATCH)
            for answer in answers_of(client, tokens[start : start + _BATCH])
        )


def answers_of(client: IdentityClient, tokens: Sequence[str]) -> list[str]:
    requests = [pb.VerifyRequest(token=token, any_audience=True) for token in tokens]
    return [
        "verified" if isinstance(outcome, Verified) else outcome.reason
        for outcome in client.verify_batch(requests)
    ]
