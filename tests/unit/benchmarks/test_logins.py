"""The background load of sign-ins: the service refuses none of them, and each ends within its round."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from benchmarks.logins import AT_ONCE, IN_FLIGHT, USERS, keep_signing_in
from identity_service.settings import Settings
from identityapi.v1 import identity_service_pb2 as pb

_ISSUE = "/identityapi.v1.IdentityService/Issue"
_ENOUGH = 3 * IN_FLIGHT


class SignIns(grpc.GenericRpcHandler):
    """A service that grants every sign-in and counts the users who sign in twice at the same time.

    After `_ENOUGH` sign-ins it closes the load's input, which ends the load.
    """

    def __init__(self, end_input: int) -> None:
        self.answered = self.twice = 0
        self._end_input = end_input
        self._lock = threading.Lock()
        self._in_progress = set[str]()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        assert handler_call_details.method == _ISSUE
        return grpc.unary_unary_rpc_method_handler(
            self._issue, pb.IssueRequest.FromString, pb.IssueResponse.SerializeToString
        )

    def _issue(self, request: pb.IssueRequest, context: grpc.ServicerContext) -> pb.IssueResponse:
        username = request.credential.password.username
        with self._lock:
            self.twice += username in self._in_progress
            self._in_progress.add(username)
        with self._lock:
            self._in_progress.remove(username)
            self.answered += 1
            if self.answered == _ENOUGH:
                os.close(self._end_input)
        return pb.IssueResponse()


def test_the_service_has_a_place_for_each_sign_in() -> None:
    settings = Settings(**AT_ONCE)
    assert settings.password_processes + settings.password_queue >= IN_FLIGHT
    assert settings.work_threads > settings.password_processes + settings.password_queue
    assert settings.attempts_per_peer >= IN_FLIGHT


def test_each_user_signs_in_again_and_no_sign_in_is_in_flight_when_the_next_round_begins(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    sign_ins = SignIns(writing)
    with os.fdopen(reading) as stdin, ThreadPoolExecutor(IN_FLIGHT) as threads:
        monkeypatch.setattr("sys.stdin", stdin)
        server = grpc.server(threads, handlers=[sign_ins])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        keep_signing_in(f"127.0.0.1:{port}", "a password")
        server.stop(None).wait()

    begun, count = capsys.readouterr().out.split()
    assert begun == "begun"
    assert sign_ins.answered == int(count) + len(USERS)
    assert not sign_ins.twice
