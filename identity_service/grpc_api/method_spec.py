"""The entry of a method in the table: its access, its threads, and the function that serves it.

`methods.py` is the table; the pipeline makes a handler of each entry.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, ClassVar, Final, Generic, TypeAlias, TypeVar

from google.protobuf.message import Message

from identity_service.grpc_api.calls import Call
from identity_service.grpc_api.engine import ResponseStream
from identity_service.transport.limits import Streams

RequestT = TypeVar("RequestT", bound=Message)
MAX_REQUEST_BYTES: Final = 64 * 1024
"""The longest request of most methods. Issue has the longest valid one of them, of about 50 KiB."""


class Access(Enum):
    """The condition that a caller of a method must meet."""

    OPEN = auto()
    """No condition: the request carries its own proof, or there is nothing to protect."""
    SCOPE = auto()
    """The caller has the scope."""
    OWN_OR_SCOPE = auto()
    """The caller is authenticated. For objects that are not its own it needs the scope.

    A party that acts for another one (token exchange) needs the scope for the objects of that one, too.
    """
    SCOPE_WHERE_CONFIGURED = auto()
    """The caller has the scope, if the setting `require_caller_auth` is on; otherwise there is no
    condition."""
    HOLDER_OR_SCOPE = auto()
    """The caller has the scope, or the request contains the token itself whose revocation it asks for."""


class Pool(Enum):
    """The thread pool that runs a method."""

    MEMORY = auto()
    """Threads that run only methods that answer from memory."""
    WORK = auto()
    """Threads for methods that may wait for the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The condition that the callers of a method must meet, and how its calls are run, logged and limited."""

    access: Access
    scope: str = ""
    """The scope that the condition names."""
    pool: Pool = Pool.WORK
    quiet: bool = False
    """True if calls that succeed are logged at level debug only."""
    streams: Streams | None = None
    """The limit under which an open call of a streaming method counts; None for other methods."""


@dataclass(frozen=True, slots=True)
class _Method(Generic[RequestT]):
    grpc_type: ClassVar[str] = "unary"
    """The label of its calls in the metrics."""
    rule: Rule
    request: type[RequestT]
    """The class of the request message."""
    max_bytes: int | None = field(default=MAX_REQUEST_BYTES, kw_only=True)
    """The longest request that is parsed; None = `max_message_bytes` alone bounds it.

    Once parsed, a request takes up to 48 times the memory of its bytes, and keeps a thread busy: 16 MiB took
    768 MiB as a batch of empty requests, and 2.5 s as claims of Issue.
    """
    check: Callable[[bytes], None] | None = field(default=None, kw_only=True)
    """Raises InvalidRequestError for bytes that would take too much memory once parsed; None = no check."""


@dataclass(frozen=True, slots=True)
class Unary(_Method[RequestT]):
    """A method with one response to one request."""

    serve: Callable[[RequestT, Call], Message]
    repeat: Callable[[bytes, str, str], Message | None] | None = field(default=None, kw_only=True)
    """A function that answers a request whose bytes equal those of an earlier one, before it is parsed.

    It gets the bytes, host:port of the client and the id of the call, and returns None if it has no answer.
    It is asked only if the call has no DPoP proof, and only for a method that requires no caller. None =
    there is no such function.
    """


@dataclass(frozen=True, slots=True)
class Cached(_Method[RequestT]):
    """A unary method that answers from memory, and that may know its response to the bytes of a request."""

    lookup: Callable[[bytes], bytes | None] | None
    """A function that returns the serialized response to these bytes, or None if it is not cached. It never
    waits. None = there is no such function."""
    serve: Callable[[RequestT, bytes], bytes]
    """A function that returns the serialized response to a request, which it also gets as the bytes that were
    parsed."""
    serve_now: Callable[[RequestT, bytes], bytes | None] | None = field(default=None, kw_only=True)
    """A function like `serve` for an event loop: it returns None, or raises StoreReadRequiredError, if the
    response would take more than a fraction of a millisecond. None = there is no such function."""


@dataclass(frozen=True, slots=True)
class Stream(_Method[RequestT]):
    """A server stream. Its function hands the stream over to the senders and returns at once."""

    grpc_type = "server_stream"
    open: Callable[[RequestT, Call, ResponseStream], None]


@dataclass(frozen=True, slots=True)
class Conversation(_Method[RequestT]):
    """A bidirectional stream that answers each message by itself. Its caller is checked when it opens."""

    grpc_type = "bidi_stream"
    answer: Callable[[RequestT], Message]


MethodSpec: TypeAlias = Unary[Any] | Cached[Any] | Stream[Any] | Conversation[Any]
