"""The client of TrustService: the published keys, and the stream of revocations."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import grpc

from identity_client.connection import ServiceClient
from identity_client.errors import SilentError
from identity_client.options import ClientOptions
from identity_client.silence import until_silent
from identity_client.values import moment
from identityapi.v1 import trust_service_pb2 as pb
from identityapi.v1 import trust_service_pb2_grpc as rpc


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A public key that verifies the signature of access tokens."""

    key_id: str
    """The `kid` in the header of the tokens that the key signed."""
    algorithm: str
    """The only JWS algorithm that the key is used with, such as ES256."""
    state: str
    """The state of the key: PENDING (signs nothing yet), SIGNING or VERIFYING (signs no new tokens);
    `UNKNOWN_<number>` for a state that is newer than this client."""
    jwk: str
    """The key as a JWK (RFC 7517), JSON text."""
    activate_time: datetime
    """The time at which the key came or comes into use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The published keys, as they were when the service answered."""

    jwks: str
    """The keys as a JWK Set (RFC 7517 section 5), JSON text."""
    keys: tuple[PublicKey, ...]
    """The same keys, one by one."""
    max_age: timedelta
    """The time for which a copy may be used before it is fetched again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDenied:
    """A revocation of one access token."""

    token_id: str
    """The `jti` of the token."""
    deny_until: datetime
    """The time by which the token has expired; afterwards the revocation may be forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded:
    """A revocation of all access tokens of one session."""

    session_id: str
    """The `sid` of the tokens."""
    deny_until: datetime
    """The time by which all tokens of the session have expired; afterwards the revocation may be
    forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRaised:
    """A revocation of everything issued so far to or through a principal; it is never forgotten.

    Tokens that name the principal as `sub`, `client_id`, in `act` or in `gen` are revoked, unless their claim
    `gen` has this generation of it.
    """

    principal: str
    """The id of a user or client, `*` for the whole service, or `*key:<kid>` for the tokens of one signing
    key."""
    number: int
    """The number of the generation; it only grows."""
    link: str
    """The random name of the generation: the same number with another link revokes the token as well."""


Revocation = TokenDenied | SessionEnded | GenerationRaised


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchEvent:
    """One message of a watch; each field may be empty."""

    revocations: tuple[Revocation, ...] = ()
    """The revocations to add to those that came before."""
    keys: KeySet | None = None
    """The published keys, which replace those that came before; None = unchanged."""
    revision: str = ""
    """The revision up to which everything has been sent: pass it to `watch(resume_after=…)`. The watcher's
    state is incomplete until the first revision has come; "" = none in this message."""
    restarted: bool = False
    """True if a snapshot begins: all keys and all revocations still in effect, complete with the next
    revision. The state that the watcher already knows stays valid."""
    time: datetime | None = None
    """In a heartbeat, the time at which the service sent it, by its clock; otherwise None."""
    staleness: timedelta | None = None
    """In a heartbeat, the time since the service sent the last heartbeat that its store confirmed; otherwise
    None."""


class TrustClient(ServiceClient):
    """A client of TrustService, for verifiers that verify tokens locally.

    See `ServiceClient` for errors, retries and threads.
    """

    _own_connection = True  # a watch may close the connection, which must not disturb other clients

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        options: ClientOptions | None = None,
        channel: grpc.Channel | None = None,
    ) -> None:
        """Create a client; the arguments are those of `ServiceClient`."""
        super().__init__(target, options=options, channel=channel)
        self._stub = rpc.TrustServiceStub(self._channel)
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """Close the channel, unless the caller passed it in."""
        with self._lock:
            self._closed = True
            super().close()

    def get_keys(self) -> KeySet:
        """Return the published keys."""
        return to_key_set(self._call(self._stub.GetKeys, pb.GetKeysRequest()).key_set)

    def watch(self, resume_after: str = "", *, max_silence: timedelta | None = None) -> Iterator[WatchEvent]:
        """Follow the revocations and keys, until the stream ends or the iterator is closed.

        The first messages are a snapshot (the keys and all revocations still in effect), or everything since
        `resume_after`. Then each change follows as it happens, with heartbeats in between.

        Args:
            resume_after: the last revision that the caller received; "" = begin with a snapshot.
            max_silence: the longest time without any message, heartbeats included (the service sends one per
                second by default); twice as long before the first message. Then SilentError is raised, and
                the next call makes a new connection; calls of other threads on the old one are cancelled.
                None = until gRPC notices that the connection is dead, which can take a minute.

        While it is read, the iterator raises UnavailableError, or ResourceExhaustedError if this watcher
        reads too slowly or there are too many watchers: in both cases, wait a moment and resume. It raises
        ValueError if a newer service sends a kind of revocation that this client does not know.
        """
        try:
            with self._stream(self._stub.Watch, pb.WatchRequest(resume_after=resume_after)) as stream:
                for message in stream if max_silence is None else until_silent(stream, max_silence):
                    yield to_event(message)
        except SilentError:
            self._reconnect()
            raise

    def _reconnect(self) -> None:
        """Replace a connection that may be dead, on which another stream would be silent as well."""
        with self._lock:
            if self._closed or not self._own:
                return
            with suppress(OSError):  # a TLS file cannot be read now: keep the old channel
                channel = self._open_channel()
                self._channel.close()
                self._channel = channel
                self._stub = rpc.TrustServiceStub(channel)


def to_event(message: pb.WatchResponse) -> WatchEvent:
    """Convert a WatchResponse. Raises ValueError if it has a kind of revocation that is not known here."""
    return WatchEvent(
        revocations=tuple(_revocation(revocation) for revocation in message.revocations),
        keys=to_key_set(message.key_set) if message.HasField("key_set") else None,
        revision=message.revision,
        restarted=message.restarted,
        time=moment(message.time) if message.HasField("time") else None,
        staleness=message.staleness.ToTimedelta() if message.HasField("staleness") else None,
    )


def _revocation(message: pb.Revocation) -> Revocation:
    match message.WhichOneof("kind"):
        case "denied_token":
            denied = message.denied_token
            return TokenDenied(token_id=denied.token_id, deny_until=moment(denied.deny_until))
        case "ended_session":
            ended = message.ended_session
            return SessionEnded(session_id=ended.session_id, deny_until=moment(ended.deny_until))
        case "raised_generation":
            raised = message.raised_generation
            return GenerationRaised(principal=raised.principal, number=raised.number, link=raised.link)
        case _:
            # Ignoring the revocation would accept a token that the service rejects.
            raise ValueError(
                "the service sent a kind of revocation that this client does not know; install a newer client"
            )


def to_key_set(message: pb.KeySet) -> KeySet:
    """Convert a KeySet message."""
    return KeySet(
        jwks=message.jwks,
        keys=tuple(
            PublicKey(
                key_id=key.key_id,
                algorithm=key.algorithm,
                state=_state(key.state),
                jwk=key.jwk,
                activate_time=moment(key.activate_time),
            )
            for key in message.keys
        ),
        max_age=message.max_age.ToTimedelta(),
    )


def _state(state: int) -> str:
    known = {value: name for name, value in pb.KeyState.items()}
    return known[state].removeprefix("KEY_STATE_") if state in known else f"UNKNOWN_{state}"
