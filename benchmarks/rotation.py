"""Rotates and retires keys under load. Run it as `python -m benchmarks.rotation`.

Two processes verify tokens of every key that there was, at a steady rate, while keys are rotated and some of
them retired. Each call is judged by its begin and its end: a good token must never be rejected, and a token
of a retired key must never be accepted by a call that begins after RetireKey has returned.
"""

import argparse
import json
import multiprocessing
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import jwt

from benchmarks import redis_server, service
from benchmarks.processes import Cores
from benchmarks.service import Service
from identityapi.v1 import admin_service_pb2 as admin_pb
from identityapi.v1 import admin_service_pb2_grpc as admin_grpc
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as pb_grpc

CLIENTS: Final = 2
_FRESH_SECONDS: Final = 0.1
"""The number of seconds after which a client requests another token."""
_DEADLINE: Final = 10.0
_RETIRE_EVERY: Final = 4
_SETTINGS: Final = {"IDENTITY_PUBLISH_BEFORE": "0s"}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of Verify, with times by the clock that all processes of the machine share."""

    key_id: str
    begun: float
    ended: float
    outcome: str
    """The outcome: `verified`, `rejected`, or the status of a call that failed."""


@dataclass(frozen=True, slots=True)
class Retirement:
    """The times when RetireKey was called, and when it had returned."""

    begun: float
    ended: float


def main() -> int:
    """Measure, print the result, and return 0 if every answer was right."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rotation")
    parser.add_argument("--rotations", type=int, default=20)
    parser.add_argument("--rate", type=int, default=1000, help="calls a second, of both clients together")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two rotations")
    arguments = parser.parse_args()
    cores = Cores.choose()
    with tempfile.TemporaryDirectory(prefix="identity-bench-") as directory:
        root = Path(directory)
        with (
            redis_server.serve(root, cores.load) as url,
            service.serve(root, url, cores, settings=_SETTINGS) as running,
        ):
            found = measure(running, arguments.rotations, arguments.rate, arguments.pause)
    print(json.dumps(found, indent=2))
    return 0 if not found["wrong"] else 1


def measure(running: Service, rotations: int, rate: int, pause: float) -> dict[str, Any]:
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, ProcessPoolExecutor(CLIENTS, mp_context=spawn) as pool:
        stop = manager.Event()
        request = running.issue_request().SerializeToString()
        clients = [
            pool.submit(keep_verifying, running.target, request, rate / CLIENTS, stop) for _ in range(CLIENTS)
        ]
        try:
            time.sleep(2 * pause)  # until every client holds tokens
            retired = rotate(running, rotations, pause)
            time.sleep(pause)
        finally:
            stop.set()
        calls = [call for client in clients for call in client.result()]
    return judge(calls, retired, rotations)


def rotate(running: Service, rotations: int, pause: float) -> dict[str, Retirement]:
    """Rotate the keys, and retire each fourth key once it is replaced; return when each was retired."""
    retired: dict[str, Retirement] = {}
    with grpc.insecure_channel(running.target) as channel:
        stub = admin_grpc.AdminServiceStub(channel)
        before = ""
        for number in range(1, rotations + 1):
            metadata = running.admin_metadata("identity.admin")
            request = admin_pb.RotateKeysRequest()
            in_use = stub.RotateKeys(request, metadata=metadata, timeout=_DEADLINE).key.key_id
            time.sleep(pause)
            if number % _RETIRE_EVERY == 0:
                begun = time.monotonic()
                retire = admin_pb.RetireKeyRequest(key_id=before, reason="a benchmark")
                metadata = running.admin_metadata("identity.admin")
                stub.RetireKey(retire, metadata=metadata, timeout=_DEADLINE)
                retired[before] = Retirement(begun, time.monotonic())
            before = in_use
    return retired


def keep_verifying(target: str, issue: bytes, rate: float, stop: Any) -> list[Call]:
    """Verify tokens at this rate until `stop` is set; request a new token now and then."""
    calls: list[Call] = []
    tokens: list[tuple[str, str]] = []
    done, sent = threading.Semaphore(0), 0
    with grpc.insecure_channel(target) as channel:
        stub = pb_grpc.IdentityServiceStub(channel)
        fresh = due = time.monotonic()
        while not stop.is_set():
            for _ in range(50):  # the event is in another process: not asked for each call
                if time.monotonic() >= fresh:
                    token = stub.Issue(pb.IssueRequest.FromString(issue), timeout=_DEADLINE).token_set
                    tokens.append((token.access_token, _key_id(token.access_token)))
                    fresh += _FRESH_SECONDS
                text, key_id = random.choice(tokens)  # noqa: S311  # which one is no secret
                begun = time.monotonic()
                future = stub.Verify.future(
                    pb.VerifyRequest(token=text, any_audience=True), timeout=_DEADLINE
                )

                def note(answer: Any, key_id: str = key_id, begun: float = begun) -> None:
                    calls.append(Call(key_id, begun, time.monotonic(), _outcome(answer)))
                    done.release()

                future.add_done_callback(note)
                sent += 1
                due += 1 / rate
                time.sleep(max(0.0, due - time.monotonic()))
        for _ in range(sent):
            done.acquire()
    return calls


def judge(calls: Sequence[Call], retired: Mapping[str, Retirement], rotations: int) -> dict[str, Any]:
    """Return the number of calls, and of wrong answers."""
    wrong: Counter[str] = Counter()
    for call in calls:
        when = retired.get(call.key_id)
        if call.outcome not in ("verified", "rejected"):
            wrong[f"failed: {call.outcome}"] += 1
        elif call.outcome == "rejected" and (when is None or call.ended < when.begun):
            wrong["a good token was rejected"] += 1
        elif call.outcome == "verified" and when is not None and call.begun > when.ended:
            wrong["a token of a retired key was taken"] += 1
    seconds = max(call.ended for call in calls) - min(call.begun for call in calls)
    return {
        "calls": len(calls),
        "calls_per_second": round(len(calls) / seconds),
        "rotations": rotations,
        "retired": len(retired),
        "keys_seen": len({call.key_id for call in calls}),
        "rejected_of_retired_keys": sum(call.outcome == "rejected" for call in calls),
        "wrong": dict(wrong),
    }


def _outcome(answer: Any) -> str:
    error = answer.exception()
    if error is not None:
        return str(error.code().name) if isinstance(error, grpc.RpcError) else repr(error)
    return str(answer.result().WhichOneof("outcome"))


def _key_id(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


if __name__ == "__main__":
    raise SystemExit(main())
