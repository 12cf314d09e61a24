"""Messages that gRPC's core passes on unchanged, compressed or not: the service decompresses them."""

import zlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.grpc_api import grpcio_engine
from identity_service.grpc_api.compression import (
    DEFLATE,
    FIRST_BYTES,
    GZIP,
    Compressed,
    Decompressor,
    WireError,
)
from identity_service.grpc_api.engine import (
    Context,
    ConversationHandler,
    ResponseStream,
    StreamHandler,
    UnaryHandler,
)
from identity_service.grpc_api.grpcio_engine import GrpcioConfig, GrpcioEngine
from identity_service.grpc_api.threads import Threads
from identity_service.transport.limits import Limits, LimitsConfig
from identityapi.v1 import identity_service_pb2 as pb
from tests.fakes.event_logs import RecordingEventLog
from tests.patience import PATIENCE

ACCEPTED = 1000
"""The longest message in bytes that the methods accept."""
LIMIT = 2**20
WINDOWS = {grpc.Compression.Gzip: GZIP, grpc.Compression.Deflate: DEFLATE}


def compressed(message: bytes, window: int) -> bytes:
    maker = zlib.compressobj(wbits=window)
    return maker.compress(message) + maker.flush()


def decompressor(enough: int | None = None) -> Decompressor:
    return Decompressor(max_bytes=LIMIT, enough=enough)


@pytest.mark.parametrize("window", WINDOWS.values(), ids=["gzip", "deflate"])
@given(message=st.binary(max_size=ACCEPTED))
def test_a_compressed_message_is_opened(window: int, message: bytes) -> None:
    sent = compressed(message, window)

    assert sent[:1] in FIRST_BYTES
    assert decompressor().opened(sent) == message


@given(
    st.binary(max_size=200).map(lambda data: pb.VerifyRequest(certificate_sha256=data).SerializeToString())
    # Fields 15, a number, and 1: a later version may send them, and gzip and deflate begin like the first.
    | st.binary(max_size=200).map(lambda data: b"\x78" + data)
)
def test_a_message_that_was_not_compressed_stays_as_it_is(message: bytes) -> None:
    assert decompressor().opened(message) == message


def test_a_message_that_its_method_finds_too_long_is_opened_one_byte_further() -> None:
    assert decompressor(enough=100).opened(compressed(bytes(LIMIT), GZIP)) == bytes(101)


@pytest.mark.parametrize("window", WINDOWS.values(), ids=["gzip", "deflate"])
def test_a_message_beyond_the_limit_is_refused(window: int) -> None:
    with pytest.raises(WireError) as error:
        decompressor().opened(compressed(bytes(LIMIT + 1), window))
    assert error.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("window", WINDOWS.values(), ids=["gzip", "deflate"])
def test_half_of_a_compressed_message_stays_as_it_is(window: int) -> None:
    """Half of a compressed message is no protobuf message; the pipeline refuses it as such."""
    half = compressed(bytes(100), window)[:-4]

    assert decompressor().opened(half) == half


def length_of(data: bytes, _: Context) -> bytes:
    return str(len(data)).encode()


def send_length(data: bytes, context: Context, stream: ResponseStream) -> None:
    stream.send(length_of(data, context), lambda: stream.end(None))


def of_each(context: Context) -> Any:
    return lambda data: length_of(data, context)


@pytest.fixture(params=["completions", "fallback"])
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the address of a server whose methods answer with the length of each message."""
    if request.param == "fallback":
        monkeypatch.setattr(grpcio_engine, "why_not", lambda: "this test wants it")
    events = RecordingEventLog()
    engine = GrpcioEngine(
        GrpcioConfig(listen="127.0.0.1:0", max_message_bytes=LIMIT), Limits(LimitsConfig(), events), events
    )
    threads = Threads(2, "identity-test")
    threads.start_first()
    # Each handler is an object of its own, to which grpcio's server assigns its threads.
    for name, most in (("", ACCEPTED), ("OfAnyLength", None)):
        unary = UnaryHandler(threads=threads, answer=partial(length_of), max_bytes=most)
        engine.register(f"/a.B/Unary{name}", unary)
        stream = StreamHandler(threads=threads, open=partial(send_length), max_bytes=most)
        engine.register(f"/a.B/Stream{name}", stream)
        each = ConversationHandler(threads=threads, open=partial(of_each), max_bytes=most)
        engine.register(f"/a.B/Each{name}", each)
    yield f"127.0.0.1:{engine.start()}"
    engine.stop(PATIENCE)
    threads.shutdown(wait=False)


def lengths(channel: grpc.Channel, message: bytes) -> list[bytes]:
    """Send the message to each method, twice to the last one; return the lengths in the responses."""
    unary: Any = channel.unary_unary("/a.B/Unary")
    stream: Any = channel.unary_stream("/a.B/Stream")
    each: Any = channel.stream_stream("/a.B/Each")
    return [unary(message), *stream(message), *each(iter([message, message]))]


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, *WINDOWS])
def test_every_kind_of_method_gets_the_message(target: str, compression: grpc.Compression) -> None:
    with grpc.insecure_channel(target, compression=compression) as channel:
        assert lengths(channel, b"\n" * 500) == [b"500"] * 4


@pytest.mark.parametrize("compression", WINDOWS)
def test_no_more_is_decompressed_than_the_method_accepts(target: str, compression: grpc.Compression) -> None:
    with grpc.insecure_channel(target, compression=compression) as channel:
        assert lengths(channel, bytes(LIMIT)) == [str(ACCEPTED + 1).encode()] * 4


@pytest.mark.parametrize("path", ["UnaryOfAnyLength", "StreamOfAnyLength", "EachOfAnyLength"])
def test_a_message_that_is_too_long_ends_the_call(target: str, path: str) -> None:
    bomb = compressed(bytes(LIMIT + 1), GZIP)
    with grpc.insecure_channel(target) as channel:
        call: Any = channel.stream_stream(f"/a.B/{path}")
        with pytest.raises(grpc.RpcError) as error:
            list(call(iter([bomb])))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_message_that_only_begins_like_a_compressed_one_is_passed_on(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        assert lengths(channel, b"\x1f\x8bjunk") == [b"6"] * 4


def test_the_representation_of_a_compressed_message_shows_nothing_of_it() -> None:
    assert "secret" not in repr(Compressed(data=b"secret", window=GZIP, max_bytes=9))
