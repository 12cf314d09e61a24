"""An honest client of a server under abuse, which makes one call of each kind at the same time."""

from __future__ import annotations  # grpcio's classes are generic for the type checker only

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as pb_grpc
from identityapi.v1 import token_pb2, trust_service_pb2, trust_service_pb2_grpc

AUDIENCE: Final = "api"
PATIENCE: Final = 60.0
"""Seconds that each call may take: far more than a server that works needs, even on a busy machine."""
ROUNDS: Final = 20
_OWN_CONNECTION: Final = [("grpc.use_local_subchannel_pool", 1)]


class Stubs:
    """The generated stubs of the called services, on one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.identity = pb_grpc.IdentityServiceStub(channel)
        self.trust = trust_service_pb2_grpc.TrustServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)  # untyped


class Bystander:
    """An honest client with a session of the service, which calls the methods that an abuse might block."""

    def __init__(self, target: str, client: token_pb2.Credential, user: token_pb2.Credential) -> None:
        """Sign in; this must happen before the abuse begins."""
        self.target = target
        self._client = client
        with self._connected() as stubs:
            issued = stubs.identity.Issue(self._issue_request(), timeout=PATIENCE)
            self._token = issued.token_set.access_token
            request = pb.IssueRequest(credential=user, audiences=[AUDIENCE])
            self._refresh = stubs.identity.Issue(request, timeout=PATIENCE).token_set.refresh_token
        self.failures()  # starts the threads of every pool

    def failures(self, rounds: int = ROUNDS) -> dict[str, grpc.StatusCode]:
        """Call every method in each round; return the failed methods of the first round with a failure.

        One round is not enough: the server may have read the frames of an abuse, but not yet have handed all
        of them to its threads.
        """
        for _ in range(rounds):
            if failed := self.failures_at_once():
                return failed
        return {}

    def failures_at_once(self, patience: float = PATIENCE) -> dict[str, grpc.StatusCode]:
        """Call every method at once, on a new connection; return the status of each failed one."""
        with self._connected() as stubs:
            issue = stubs.identity.Issue.future(self._issue_request(), timeout=patience)
            verify = pb.VerifyRequest(token=self._token, audiences=[AUDIENCE])
            refresh = pb.RefreshRequest(refresh_token=self._refresh)
            revoke = pb.RevokeRequest(token=self._token[:-2])  # no token: OK without effect
            calls = {
                "Verify": stubs.identity.Verify.future(verify, timeout=patience),
                "Issue": issue,
                "Refresh": stubs.identity.Refresh.future(refresh, timeout=patience),
                "Revoke": stubs.identity.Revoke.future(revoke, timeout=patience),
                "GetKeys": stubs.trust.GetKeys.future(trust_service_pb2.GetKeysRequest(), timeout=patience),
                "Check": stubs.health.Check.future(health_pb2.HealthCheckRequest(), timeout=patience),
            }
            failed = {name: call.code() for name, call in calls.items() if call.exception() is not None}
            if "Refresh" not in failed:
                self._refresh = calls["Refresh"].result().token_set.refresh_token
        return failed

    def _issue_request(self) -> pb.IssueRequest:
        return pb.IssueRequest(credential=self._client, audiences=[AUDIENCE])

    @contextmanager
    def _connected(self) -> Iterator[Stubs]:
        with grpc.insecure_channel(self.target, _OWN_CONNECTION) as channel:
            yield Stubs(channel)


class PlainBystander(Bystander):
    """An honest client of the plain server, which checks no request and answers with empty messages."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._client = token_pb2.Credential()
        self._token = self._refresh = "none"
