"""The client of TrustService: the published keys, and everything that takes tokens back as it happens."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import grpc

from identity_client.connection import Connected, translated
from identity_client.errors import SilentError
from identity_client.options import ClientOptions
from identity_client.silence import until_silent
from identity_client.values import moment
from identityapi.v1 import trust_service_pb2 as pb
from identityapi.v1 import trust_service_pb2_grpc as rpc


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A key that tokens are signed with."""

    key_id: str
    algorithm: str
    state: str
    """PENDING, SIGNING or VERIFYING; `UNKNOWN_<number>` for one that is newer than this client."""
    jwk: str
    """RFC 7517, JSON text."""
    activate_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The keys of one moment."""

    jwks: str
    """A JWK Set (RFC 7517 section 5), JSON text."""
    keys: tuple[PublicKey, ...]
    max_age: timedelta
    """How long a copy may be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDenied:
    """The token of this `jti` is refused until then, when it has expired."""

    token_id: str
    deny_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded:
    """Tokens of this `sid` are refused until then, when all have expired."""

    session_id: str
    deny_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRaised:
    """Tokens of this principal, `*` = of all, are refused unless their claim `gen` has this generation."""

    principal: str
    number: int
    link: str


Revocation = TokenDenied | SessionEnded | GenerationRaised


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchEvent:
    """What one message of a watch says; any part may be empty."""

    revocations: tuple[Revocation, ...] = ()
    keys: KeySet | None = None
    """They replace those that came before."""
    revision: str = ""
    """Everything up to here has been sent: what to resume after. Until it comes, not all is known."""
    restarted: bool = False
    """Everything that is live follows, up to the next revision."""
    time: datetime | None = None
    """Of a heartbeat, by the clock of the service."""
    staleness: timedelta | None = None
    """Of a heartbeat: since when the service has had no confirmation from its store."""


class TrustClient(Connected):
    """Reads what a verifier needs to check tokens by itself."""

    _own_connection = True  # a watch may give it up, and that must disturb no other client

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        options: ClientOptions | None = None,
        channel: grpc.Channel | None = None,
    ) -> None:
        """See Connected."""
        super().__init__(target, options=options, channel=channel)
        self._stub = rpc.TrustServiceStub(self._channel)
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """Close the channel, if this client made it."""
        with self._lock:
            self._closed = True
            super().close()

    def get_keys(self) -> KeySet:
        """The keys of this moment."""
        return _key_set(self._call(self._stub.GetKeys, pb.GetKeysRequest()).key_set)

    def watch(self, resume_after: str = "", *, max_silence: timedelta | None = None) -> Iterator[WatchEvent]:
        """What is live, then what happens, until the stream ends or the iterator is closed.

        Args:
            resume_after: the last revision that was read; "" = tell everything.
            max_silence: how long no message may come, not even a heartbeat (one a second, unless the
                service is set otherwise); before the first message twice as long. Then SilentError is
                raised, and the next call makes a new connection; calls of other threads on the old one are
                cancelled. None = as long as the connection seems to live, which can be a minute after the
                service is gone.

        Raises, while it is read: UnavailableError, ResourceExhaustedError (this watcher is too slow, or one
        too many): wait a moment and resume. ValueError: the service is newer, and says what this client
        cannot understand.
        """
        stream = self._open(self._stub.Watch, pb.WatchRequest(resume_after=resume_after))
        try:
            with translated():
                for message in stream if max_silence is None else until_silent(stream, max_silence):
                    yield _news(message)
        except SilentError:
            self._reconnect()
            raise
        finally:
            stream.cancel()

    def _reconnect(self) -> None:
        """Leave a connection that may be dead. Another stream on it would be as silent."""
        with self._lock:
            if self._closed or not self._own:
                return
            with suppress(OSError):  # a file of TLS that is not there now: then keep what there is
                channel = self._open_channel()
                self._channel.close()
                self._channel = channel
                self._stub = rpc.TrustServiceStub(channel)


def _news(message: pb.WatchResponse) -> WatchEvent:
    return WatchEvent(
        revocations=tuple(_revocation(revocation) for revocation in message.revocations),
        keys=_key_set(message.key_set) if message.HasField("key_set") else None,
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
            # Passing over it would let a token pass that the service refuses.
            raise ValueError("the service sent a kind of revocation that is newer than this client")


def _key_set(message: pb.KeySet) -> KeySet:
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
