"""Denial-of-service attacks on a gRPC server, by name; none of them needs a credential.

An abuse continues until it is stopped: once a second it opens streams and connections again that the server
has ended.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from identityapi.v1 import admin_service_pb2, identity_service_pb2, token_pb2, trust_service_pb2
from tests.abuse import floods, frames, held
from tests.abuse.crowd import Crowd

_SERVICE: Final = "/identityapi.v1.IdentityService/"
VERIFY: Final = f"{_SERVICE}Verify"
ISSUE: Final = f"{_SERVICE}Issue"
REFRESH: Final = f"{_SERVICE}Refresh"
REVOKE: Final = f"{_SERVICE}Revoke"
GET_KEYS: Final = "/identityapi.v1.TrustService/GetKeys"
WATCH: Final = "/identityapi.v1.TrustService/Watch"
LIST_CLIENTS: Final = "/identityapi.v1.AdminService/ListClients"
CHECK: Final = "/grpc.health.v1.Health/Check"
HEALTH_WATCH: Final = "/grpc.health.v1.Health/Watch"
REFLECTION: Final = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
UNARY: Final = (VERIFY, ISSUE, REFRESH, REVOKE, CHECK, GET_KEYS)
_MESSAGE_LIMIT: Final = 16 * 2**20
_EMPTY: Final = frames.message(b"")


class Abuse(Protocol):
    """One abuse in progress; only one thread may use it."""

    def step(self, now: float) -> float:
        """Perform the steps that are due at this time; return how many seconds the next step may wait."""

    @property
    def is_held(self) -> bool:
        """Return whether the abuse is under way: the server has accepted or refused all parts of it."""


Make = Callable[[Crowd, int], Abuse]
"""A function that makes an abuse; the number is its streams or connections, or its calls per second."""


def _streams(
    paths: Sequence[str],
    body: bytes = b"",
    *,
    end: bool = False,
    window: int = frames.DEFAULT_WINDOW,
    each: int = 100,
    again: bool = True,
    answered: bool = False,
) -> Make:
    def make(crowd: Crowd, count: int) -> Abuse:
        order = held.Order(
            paths=paths, count=count, body=body, end=end, window=window, each=each, answered=answered
        )
        return held.Streams(crowd, order, again=again)

    return make


def _refused() -> Sequence[tuple[str, bytes]]:
    secret = token_pb2.ClientSecret(client_id="nobody", client_secret="idcs_" + "0" * 43)
    issue = identity_service_pb2.IssueRequest(credential=token_pb2.Credential(client_secret=secret))
    clients = admin_service_pb2.ListClientsRequest()
    return (
        (ISSUE, frames.message(issue.SerializeToString())),
        (LIST_CLIENTS, frames.message(clients.SerializeToString())),
    )


def _wrong_password() -> bytes:
    password = token_pb2.Password(username="nobody", password="a guess")
    request = identity_service_pb2.IssueRequest(credential=token_pb2.Credential(password=password))
    return frames.message(request.SerializeToString())


def _reflection_request() -> bytes:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    return frames.message(request.SerializeToString())


def _verify_request() -> bytes:
    return frames.message(
        identity_service_pb2.VerifyRequest(token="x", any_audience=True).SerializeToString()
    )


_HEALTH: Final = frames.message(health_pb2.HealthCheckRequest().SerializeToString())
_WATCH: Final = frames.message(trust_service_pb2.WatchRequest().SerializeToString())
_ALMOST: Final = frames.message(bytes(_MESSAGE_LIMIT - 6), length=_MESSAGE_LIMIT - 5)
"""A message of 16 MiB (with its prefix) whose last byte is missing."""

ABUSES: Final[Mapping[str, tuple[int, Make]]] = {
    # The abuses in the table of docs/security.md, in the order of the table.
    "reflection": (32, _streams([REFLECTION], _reflection_request(), answered=True)),
    "health-watch": (4, _streams([HEALTH_WATCH], _HEALTH, end=True, window=0)),
    "headers-verify": (4, _streams([VERIFY])),
    "headers-issue": (40, _streams([ISSUE])),
    "headers": (4_500, _streams(UNARY)),
    "bodies": (24, _streams([VERIFY], _ALMOST, each=1)),
    "bodies-once": (24, _streams([VERIFY], _ALMOST, each=1, again=False)),
    "resets": (28_000, lambda crowd, rate: floods.Resets(crowd, VERIFY, _verify_request(), rate)),
    "refused": (880, lambda crowd, rate: floods.Calls(crowd, _refused(), rate, enough=1_500)),
    "watch": (450, _streams([WATCH], _WATCH, end=True, window=0, answered=True)),
    "passwords": (60, lambda crowd, count: floods.Bursts(crowd, ISSUE, _wrong_password(), count)),
    # Variants of the abuses above.
    "resets-of-headers": (28_000, lambda crowd, rate: floods.Resets(crowd, VERIFY, b"", rate)),
    "unread-answers": (5_000, _streams([VERIFY, GET_KEYS], _verify_request(), end=True, window=0)),
    "unread-reflection": (64, _streams([REFLECTION], _reflection_request() * 100, window=0)),
    "never-ended": (2_000, _streams([VERIFY], _verify_request())),
    "half-prefix": (2_000, _streams([VERIFY, ISSUE], b"\0\0")),
    "drip": (200, lambda crowd, count: held.Drip(crowd, [VERIFY, ISSUE, CHECK], count)),
    "unknown-methods": (2_000, lambda crowd, rate: floods.Calls(crowd, [("/a.B/C", _EMPTY)], rate)),
    "crowded-calls": (
        20_000,
        lambda crowd, rate: floods.Calls(  # enough: each connection has had its 100 calls in progress
            crowd, [(VERIFY, _verify_request())], rate, enough=5_000, connections=50
        ),
    ),
    "zeros": (
        100,
        lambda crowd, rate: floods.Calls(
            crowd, [(VERIFY, frames.compressed_zeros(_MESSAGE_LIMIT))], rate, more=[("grpc-encoding", "gzip")]
        ),
    ),
    "silent-connections": (2_000, lambda crowd, count: held.Silence(crowd, count, b"")),
    "half-preface": (2_000, lambda crowd, count: held.Silence(crowd, count, frames.PREFACE[:10])),
    "half-handshake": (2_000, lambda crowd, count: held.Silence(crowd, count, b"\x16\x03\x01\x02\x00\x01")),
    "settings-flood": (20_000, lambda crowd, rate: floods.Frames(crowd, frames.settings({}), rate)),
    "ping-flood": (
        20_000,
        lambda crowd, rate: floods.Frames(crowd, frames.frame(frames.PING, 0, 0, bytes(8)), rate),
    ),
    "window-flood": (
        20_000,
        lambda crowd, rate: floods.Frames(crowd, frames.window_update(0, 1), rate),
    ),
    "empty-data-flood": (20_000, lambda crowd, rate: floods.EmptyData(crowd, VERIFY, rate)),
    "continuation-flood": (20_000, lambda crowd, rate: floods.Continuations(crowd, VERIFY, rate)),
    "reconnects": (200, lambda crowd, rate: floods.Reconnects(crowd, rate)),
}
"""For the name of each abuse, its default size and the function that makes it."""
