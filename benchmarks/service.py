"""The running service under test: prepares the requests, and checks the answers.

It runs with its default settings, except for an issuer that HTTP needs, and for cheap password hashing, since
sign-ins only prepare the load. The bar that measures sign-ins uses the default cost.
"""

from __future__ import annotations  # grpcio's classes are generic for the type checker only

import base64
import contextlib
import secrets
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from benchmarks import load
from benchmarks.launch import Launcher, Running
from benchmarks.processes import BenchmarkError, Cores, Process
from benchmarks.sides import Check
from identity_service.grpc_api.ext_authz.wire import auth_pb2
from identityapi.v1 import admin_service_pb2 as admin_pb
from identityapi.v1 import admin_service_pb2_grpc as admin_grpc
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as pb_grpc
from identityapi.v1 import principal_pb2, token_pb2
from identityapi.v1 import trust_service_pb2 as trust_pb
from identityapi.v1 import trust_service_pb2_grpc as trust_grpc

DENIALS: Final = 10_000
"""The number of live denials while Verify is measured."""
SESSIONS: Final = 2_000
"""The number of sessions that are refreshed in turn, so that each is refreshed about once in a round."""
BATCH: Final = 100
"""The number of tokens in one VerifyBatch."""
USER: Final = "benchmark"
AUDIENCE: Final = "orders"
SCOPE: Final = "orders.read"
_ISSUER: Final = "https://identity.example.org"
_IN_FLIGHT: Final = 16
_DEADLINE: Final = 30.0
CHEAP_PASSWORDS: Final = {
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
    settings: Mapping[str, str] = CHEAP_PASSWORDS,
    http: bool = False,
    python: str = sys.executable,
) -> Iterator[Service]:
    """Initialise the store, create a client and a user, and serve until the block ends.

    Args:
        directory: the directory for the files of the service.
        store_url: the store.
        cores: the core of the service, and that of the load.
        fill: adds more to the store before the service starts.
        settings: settings that differ from the defaults, as environment variables.
        http: whether the service listens for HTTP, too.
        python: the Python that runs the service.
    """
    directory.mkdir(parents=True, exist_ok=True)
    master_key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    environment = {
        **settings,
        "IDENTITY_MASTER_KEY": master_key,
        "IDENTITY_STORE": store_url,
        "IDENTITY_ISSUER": _ISSUER,
    }
    allowed = ("--audience", AUDIENCE, "--scope", SCOPE)
    with contextlib.ExitStack() as stack:
        launcher = Launcher(stack, directory, cores.server, environment, python)
        admin = launcher.command("init")
        fill()
        running = launcher.serve("service", http=http)
        as_admin = {
            "IDENTITY_CLIENT_ID": admin["client_id"],
            "IDENTITY_CLIENT_SECRET": admin["client_secret"],
            "IDENTITY_TARGET": running.target,
        }
        client = launcher.command("client", "create", "benchmark-client", *allowed, environment=as_admin)
        password = secrets.token_urlsafe(16)
        launcher.command(
            "user", "create", USER, *allowed, "--password-stdin", stdin=password, environment=as_admin
        )
        channel = stack.enter_context(grpc.insecure_channel(running.target))
        yield Service(launcher, running, channel, admin=admin, client=client, password=password)


class Service:
    """One process of the service, with one client and one user. Others may be started on the same store."""

    def __init__(
        self,
        launcher: Launcher,
        running: Running,
        channel: grpc.Channel,
        *,
        admin: Mapping[str, str],
        client: Mapping[str, str],
        password: str,
    ) -> None:
        self.launcher = launcher
        self.running = running
        self.password = password
        self._channel = channel
        self._stub = pb_grpc.IdentityServiceStub(channel)
        self._admin = admin
        self._client = client

    @property
    def target(self) -> str:
        return self.running.target

    @property
    def client_credential(self) -> tuple[str, str]:
        """The id and the secret of the client."""
        return self._client["client_id"], self._client["client_secret"]

    @property
    def process(self) -> Process:
        return self.running.process

    def deny(self, count: int) -> None:
        """Revoke this many random token ids."""
        metadata = self.admin_metadata()
        requests = [pb.RevokeRequest(token_id=secrets.token_urlsafe(16)) for _ in range(count)]
        _all(
            lambda request: self._stub.Revoke.future(request, timeout=_DEADLINE, metadata=metadata), requests
        )

    def admin_metadata(self, scope: str = "identity.revoke") -> tuple[tuple[str, str], ...]:
        """Return the metadata of a call of the administrator."""
        admin = self._issue(self._admin, audience=None, scope=scope)
        return (("authorization", f"Bearer {admin}"),)

    def jwks(self) -> str:
        """Return the public keys."""
        stub = trust_grpc.TrustServiceStub(self._channel)
        return stub.GetKeys(trust_pb.GetKeysRequest(), timeout=_DEADLINE).key_set.jwks

    def issuer(self) -> str:
        """Return the issuer that its tokens name."""
        answer = self._stub.Verify(self.verify_request(), timeout=_DEADLINE)
        return answer.verified.issuer

    def access_token(self) -> str:
        """Return a good access token of the client."""
        return self._issue(self._client, audience=AUDIENCE, scope=SCOPE)

    def sign_in(self, count: int) -> list[str]:
        """Sign in this many times; return the refresh token of each session."""
        password = token_pb2.Password(username=USER, password=self.password)
        requests = [pb.IssueRequest(credential=token_pb2.Credential(password=password))] * count
        answers = _all(lambda request: self._stub.Issue.future(request, timeout=_DEADLINE), requests)
        return [answer.token_set.refresh_token for answer in answers]

    def create_users(self, usernames: Sequence[str]) -> None:
        """Create these users, with the password of the one user."""
        stub, metadata = admin_grpc.AdminServiceStub(self._channel), self.admin_metadata("identity.admin")
        for username in usernames:
            user = principal_pb2.User(username=username, audiences=[AUDIENCE], scopes=[SCOPE])
            request = admin_pb.CreateUserRequest(user=user, password=self.password)
            stub.CreateUser(request, timeout=_DEADLINE, metadata=metadata)

    def verify_request(self) -> pb.VerifyRequest:
        """Return a request of Verify with a good token."""
        return _verify_request(self.access_token())

    def verify_requests(self, count: int) -> list[pb.VerifyRequest]:
        """Return this many requests of Verify, each with a new token."""
        request = self._issue_request(self._client, AUDIENCE, SCOPE)
        answers = _all(lambda one: self._stub.Issue.future(one, timeout=_DEADLINE), [request] * count)
        return [_verify_request(answer.token_set.access_token) for answer in answers]

    def verify_batch_request(self) -> pb.VerifyBatchRequest:
        """Return a request of VerifyBatch with different good tokens."""
        return pb.VerifyBatchRequest(requests=self.verify_requests(BATCH))

    def check_request(self) -> auth_pb2.CheckRequest:
        """Return a request of ext_authz, as Envoy sends it for a call with a good token."""
        request = auth_pb2.CheckRequest()
        http = request.attributes.request.http
        http.path = "/orders.v1.Orders/List"
        http.headers.update(
            {
                ":method": "POST",
                ":path": http.path,
                ":authority": "orders.example.org",
                "authorization": f"Bearer {self.access_token()}",
                "content-type": "application/grpc",
                "user-agent": "grpc-python/1.85.1 grpc-c/55.0.0 (linux; chttp2)",
            }
        )
        request.attributes.context_extensions.update({"audience": AUDIENCE, "scopes": SCOPE})
        return request

    def issue_request(self) -> pb.IssueRequest:
        """Return a request of Issue with the client secret."""
        return self._issue_request(self._client, AUDIENCE, SCOPE)

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


def _verify_request(token: str) -> pb.VerifyRequest:
    return pb.VerifyRequest(token=token, audiences=[AUDIENCE], required_scopes=[SCOPE])


def _all(call: Callable[[RequestT], grpc.Future[AnswerT]], requests: Sequence[RequestT]) -> list[AnswerT]:
    """Make all the calls, 16 at a time. Raises BenchmarkError at the first one that fails."""
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


def good_verify(answer: bytes) -> str:
    """Check an answer of Verify: the token is verified."""
    try:
        response = pb.VerifyResponse.FromString(answer)
    except DecodeError:
        return "no VerifyResponse"
    return _verified(response)


def good_batch(answer: bytes) -> str:
    """Check an answer of VerifyBatch: all tokens are verified, and no two are the same."""
    try:
        responses = pb.VerifyBatchResponse.FromString(answer).responses
    except DecodeError:
        return "no VerifyBatchResponse"
    if len({response.verified.token_id for response in responses}) != BATCH:
        return f"{len(responses)} answers, {BATCH} different ones expected"
    return next(filter(None, map(_verified, responses)), "")


def good_issue(answer: bytes) -> str:
    """Check an answer of Issue: it has a token."""
    try:
        token_set = pb.IssueResponse.FromString(answer).token_set
    except DecodeError:
        return "no IssueResponse"
    return "" if token_set.access_token.count(".") == 2 and token_set.token_id else "no token"


def _verified(response: pb.VerifyResponse) -> str:
    if response.WhichOneof("outcome") != "verified":
        return f"the token was not verified: {response.rejected}"
    return "" if response.verified.token_id else "an answer with gaps"


CHECKS: Final[Mapping[str, Check]] = {
    f"{load.SERVICE}Verify": good_verify,
    f"{load.SERVICE}VerifyBatch": good_batch,
    f"{load.SERVICE}Issue": good_issue,
    load.CHECK_PATH: load.good_check,
}
"""The check of the answers of each method, by its path."""
