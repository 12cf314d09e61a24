"""The service under test: the real process, started as an operator would. The one place that knows how.

It runs with its default settings, but for cheap password hashing: sign-ins only prepare the load here,
and no bar of this benchmark times them.
"""

from __future__ import annotations  # grpcio's classes are generic for the type checker only

import base64
import contextlib
import functools
import json
import os
import secrets
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.processes import BenchmarkError, Cores, Process, free_port
from benchmarks.sides import Check
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as pb_grpc
from identityapi.v1 import token_pb2

DENIALS: Final = 10_000
"""Live entries of the denylist while Verify is measured."""
SESSIONS: Final = 2_000
"""Chains that the refreshes go round, so that one session is refreshed about once in a round."""
AUDIENCE: Final = "orders"
_SCOPE: Final = "orders.read"
USER: Final = "benchmark"
_COMMAND: Final = (sys.executable, "-m", "identity_service")
_IN_FLIGHT: Final = 16
_DEADLINE: Final = 30.0
_COMMAND_SECONDS: Final = 60.0
_START_SECONDS: Final = 120.0
_SETTINGS: Final = {
    "IDENTITY_ARGON2_TIME_COST": "1",
    "IDENTITY_ARGON2_MEMORY_KIB": "8",
    "IDENTITY_ARGON2_PARALLELISM": "1",
}
RequestT = TypeVar("RequestT", bound=Message)
AnswerT = TypeVar("AnswerT")


@contextlib.contextmanager
def serve(
    directory: Path,
    store_url: str,
    cores: Cores,
    *,
    fill: Callable[[], None] = lambda: None,
    second: bool = False,
    settings: Mapping[str, str] = _SETTINGS,
) -> Iterator[Service]:
    """Initialise the store, create a client and a user, and serve until the block ends.

    Args:
        fill: puts more into the store before the service starts.
        second: start another process on the same store, `Service.second`.
        settings: beside the defaults; for a start, cheap password hashing.
    """
    master_key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("IDENTITY_")}
    env = inherited | dict(settings) | {"IDENTITY_MASTER_KEY": master_key, "IDENTITY_STORE": store_url}
    # Everything runs in `directory`, out of sight of an identity.toml of whoever measures.
    allowed = ("--audience", AUDIENCE, "--scope", _SCOPE)
    admin = _identity(directory, env, "init")
    password = secrets.token_urlsafe(16)
    fill()
    with contextlib.ExitStack() as stack:
        targets, processes, begun = [], [], time.monotonic()
        for name in ("service", "second")[: 1 + second]:
            target = f"127.0.0.1:{free_port()}"
            command = [*_COMMAND, "serve", "--listen", target]
            process = stack.enter_context(
                Process(name, command, core=cores.server, directory=directory, env=env, cwd=directory)
            )
            process.wait_until(functools.partial(_is_serving, target), _START_SECONDS)
            targets.append(target)
            processes.append(process)
        started = time.monotonic() - begun
        caller = {"IDENTITY_CLIENT_ID": admin["client_id"], "IDENTITY_CLIENT_SECRET": admin["client_secret"]}
        as_admin = env | caller | {"IDENTITY_TARGET": targets[0]}
        client = _identity(directory, as_admin, "client", "create", "benchmark-client", *allowed)
        _identity(directory, as_admin, "user", "create", USER, *allowed, "--password-stdin", stdin=password)
        channel = stack.enter_context(grpc.insecure_channel(targets[0]))
        yield Service(targets, channel, processes[0], started, admin=admin, client=client, password=password)


class Service:
    """The service as it runs: prepares what is measured, and knows what a good answer is."""

    def __init__(
        self,
        targets: Sequence[str],
        channel: grpc.Channel,
        process: Process,
        started: float,
        *,
        admin: Mapping[str, str],
        client: Mapping[str, str],
        password: str,
    ) -> None:
        self.target = targets[0]
        self.targets = targets
        self.process = process
        self.started = started
        """Seconds until it served."""
        self._stub = pb_grpc.IdentityServiceStub(channel)
        self._admin = admin
        self._client = client
        self.password = password

    def deny(self, count: int) -> None:
        """Revoke so many random token ids."""
        metadata = self.admin_metadata()
        requests = [pb.RevokeRequest(token_id=secrets.token_urlsafe(16)) for _ in range(count)]
        _all(
            lambda request: self._stub.Revoke.future(request, timeout=_DEADLINE, metadata=metadata), requests
        )

    def admin_metadata(self, scope: str = "identity.revoke") -> tuple[tuple[str, str], ...]:
        """What goes along with a call of the administrator."""
        admin = self._issue(self._admin, audience=None, scope=scope)
        return (("authorization", f"Bearer {admin}"),)

    def access_token(self) -> str:
        """A good token of the client."""
        return self._issue(self._client, audience=AUDIENCE, scope=_SCOPE)

    def sign_in(self, count: int) -> list[str]:
        """Sign in so often; the refresh token of each session."""
        password = token_pb2.Password(username=USER, password=self.password)
        requests = [pb.IssueRequest(credential=token_pb2.Credential(password=password))] * count
        answers = _all(lambda request: self._stub.Issue.future(request, timeout=_DEADLINE), requests)
        return [answer.token_set.refresh_token for answer in answers]

    def verify_call(self) -> tuple[bytes, Check]:
        """A Verify of one good token, and what makes its answer good."""
        return self.verify_request().SerializeToString(), _good_verify

    def verify_request(self) -> pb.VerifyRequest:
        """A Verify of one good token."""
        return pb.VerifyRequest(token=self.access_token(), audiences=[AUDIENCE], required_scopes=[_SCOPE])

    def issue_call(self) -> tuple[bytes, Check]:
        """An Issue by client secret, and what makes its answer good."""
        return self._issue_request(self._client, AUDIENCE, _SCOPE).SerializeToString(), _good_issue

    def _issue(self, client: Mapping[str, str], *, audience: str | None, scope: str) -> str:
        answer = self._stub.Issue(self._issue_request(client, audience, scope), timeout=_DEADLINE)
        return answer.token_set.access_token

    def _issue_request(self, client: Mapping[str, str], audience: str | None, scope: str) -> pb.IssueRequest:
        secret = token_pb2.ClientSecret(client_id=client["client_id"], client_secret=client["client_secret"])
        return pb.IssueRequest(
            credential=token_pb2.Credential(client_secret=secret),
            audiences=[audience] if audience else [],
            scopes=[scope],
        )


def _identity(directory: Path, env: Mapping[str, str], *arguments: str, stdin: str = "") -> dict[str, str]:
    """Run the command `identity`; what it says, as JSON."""
    run = subprocess.run(
        [*_COMMAND, *arguments, "--json"],
        input=stdin,
        env=env,
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=_COMMAND_SECONDS,
    )
    if run.returncode:
        raise BenchmarkError(f"identity {' '.join(arguments[:2])} failed:\n{run.stderr[-1000:]}")
    answer: dict[str, str] = json.loads(run.stdout)
    return answer


def _is_serving(target: str) -> bool:
    with grpc.insecure_channel(target) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # untyped
        try:
            answer: health_pb2.HealthCheckResponse = health.Check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _all(call: Callable[[RequestT], grpc.Future[AnswerT]], requests: Sequence[RequestT]) -> list[AnswerT]:
    """Make all the calls, some at a time. Raises BenchmarkError at the first that fails."""
    answers: list[AnswerT] = []
    in_flight: deque[grpc.Future[AnswerT]] = deque()
    waiting = deque(requests)
    try:
        while waiting or in_flight:
            while waiting and len(in_flight) < _IN_FLIGHT:
                in_flight.append(call(waiting.popleft()))
            answers.append(in_flight.popleft().result())
    except grpc.RpcError as error:
        raise BenchmarkError(f"the service cannot be prepared: {error}") from error
    return answers


def _good_verify(answer: bytes) -> str:
    try:
        response = pb.VerifyResponse.FromString(answer)
    except DecodeError:
        return "no VerifyResponse"
    if response.WhichOneof("outcome") != "verified":
        return f"the token was not verified: {response.rejected}"
    return "" if response.verified.token_id and response.revision else "an answer with gaps"


def _good_issue(answer: bytes) -> str:
    try:
        token_set = pb.IssueResponse.FromString(answer).token_set
    except DecodeError:
        return "no IssueResponse"
    return "" if token_set.access_token.count(".") == 2 and token_set.token_id else "no token"
