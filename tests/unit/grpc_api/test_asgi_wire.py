"""gRPC over HTTP/2: frames, timeouts, metadata and status are encoded as the protocol defines them."""

import base64
import secrets
import zlib
from collections.abc import Sequence
from contextlib import suppress

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.grpc_api.asgi.wire import (
    ENCODINGS,
    Unframer,
    frame,
    from_metadata,
    opened,
    status_headers,
    timeout_of,
    to_metadata,
    window_of,
)
from identity_service.grpc_api.compression import Compressed, WireError

LIMIT = 1000


def unframer(encoding: bytes = b"identity") -> Unframer:
    return Unframer(LIMIT, ENCODINGS[encoding], LIMIT)


def compressed(message: bytes, encoding: bytes) -> bytes:
    maker = zlib.compressobj(wbits=ENCODINGS[encoding])
    data = maker.compress(message) + maker.flush()
    return b"\1" + len(data).to_bytes(4, "big") + data


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


@given(st.lists(st.binary(max_size=LIMIT), max_size=5), st.lists(st.integers(0, 10_000), max_size=8))
def test_messages_come_out_whole_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    reader, found = unframer(), []
    for piece in pieces(b"".join(map(frame, messages)), cuts):
        reader.feed(piece)
        while (message := reader.next()) is not None:
            found.append(message)

    assert found == messages


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
@given(st.binary(max_size=LIMIT))
def test_compressed_messages_are_opened(encoding: bytes, message: bytes) -> None:
    reader = unframer(encoding)
    reader.feed(compressed(message, encoding) + frame(message))

    assert [reader.next(), reader.next(), reader.next()] == [message, message, None]


@given(st.binary(max_size=50), st.sampled_from([b"identity", b"gzip", b"deflate"]))
def test_junk_gives_a_status_or_a_message_and_nothing_else(junk: bytes, encoding: bytes) -> None:
    reader = unframer(encoding)
    reader.feed(junk)
    with suppress(WireError):  # anything else fails the test
        found = reader.next()
        assert found is None or len(opened(found)) <= LIMIT


def refused(reader: Unframer) -> grpc.StatusCode:
    with pytest.raises(WireError) as error:
        reader.next()
    return error.value.code


def test_a_message_over_the_limit_is_refused_by_its_length_alone() -> None:
    reader, fits = unframer(), unframer()
    reader.feed(b"\0" + (LIMIT + 1).to_bytes(4, "big"))
    fits.feed(frame(b"x" * LIMIT))

    assert refused(reader) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert fits.next() == b"x" * LIMIT


def test_a_bomb_is_opened_no_further_than_the_limit() -> None:
    reader, fits = unframer(b"gzip"), unframer(b"gzip")
    reader.feed(compressed(b"\0" * (LIMIT + 1), b"gzip"))
    fits.feed(compressed(b"\0" * LIMIT, b"gzip"))

    assert refused(reader) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert fits.next() == b"\0" * LIMIT


def test_a_message_that_its_method_finds_too_long_is_opened_one_byte_further() -> None:
    reader = Unframer(LIMIT, ENCODINGS[b"gzip"], 100)
    reader.feed(compressed(b"\0" * LIMIT, b"gzip"))

    assert reader.next() == b"\0" * 101


def test_a_message_of_any_length_is_opened_when_it_is_asked_for() -> None:
    reader = Unframer(LIMIT, ENCODINGS[b"gzip"])
    reader.feed(compressed(b"\0" * LIMIT, b"gzip"))
    message = reader.next()

    assert isinstance(message, Compressed)
    assert opened(message) == b"\0" * LIMIT


def test_a_long_message_is_opened_only_if_it_was_not_too_much_shorter() -> None:
    """A message must not cause a thousand times the work that its size suggests."""
    longest = 16 * 2**20
    zeros, noise = bytes(2**20 + 1), secrets.token_bytes(2**20 + 1)
    bomb, message = (Unframer(longest, ENCODINGS[b"gzip"]) for _ in range(2))
    bomb.feed(compressed(zeros, b"gzip"))
    message.feed(compressed(noise, b"gzip"))

    with pytest.raises(WireError) as error:
        opened(bomb.next() or b"")
    assert error.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert opened(message.next() or b"") == noise


def test_half_of_a_compressed_message_is_refused() -> None:
    whole = compressed(b"message", b"gzip")
    data = whole[5:-4]
    reader = unframer(b"gzip")
    reader.feed(b"\1" + len(data).to_bytes(4, "big") + data)

    assert refused(reader) is grpc.StatusCode.INTERNAL


def test_a_compressed_message_without_an_encoding_is_refused() -> None:
    reader = unframer()
    reader.feed(compressed(b"message", b"gzip"))

    assert refused(reader) is grpc.StatusCode.INTERNAL


def test_an_unknown_encoding_is_unimplemented() -> None:
    assert window_of(b"gzip") == ENCODINGS[b"gzip"]
    with pytest.raises(WireError) as error:
        window_of(b"snappy")
    assert error.value.code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"1H", 3600),
        (b"2M", 120),
        (b"5S", 5),
        (b"250m", 0.25),
        (b"1500u", 0.002),
        (b"1n", 0.001),
        (b"0S", 0),
        (b"99999999S", 99_999_999),
    ],
)
def test_timeouts_are_seconds_to_the_next_millisecond(text: bytes, seconds: float) -> None:
    assert timeout_of(text) == seconds


@pytest.mark.parametrize("text", [b"", b"S", b"1", b"-1S", b"1s", b"123456789S", b"1.5S", b"1S ", b"\xff"])
def test_a_malformed_timeout_is_refused(text: bytes) -> None:
    with pytest.raises(WireError):
        timeout_of(text)


def test_metadata_has_every_text_but_not_the_headers_of_http_and_of_grpc() -> None:
    headers = [
        (b":path", b"/"),
        (b"host", b"h"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"grpc-timeout", b"1S"),
        (b"x-forwarded-client-cert", b"Hash=1"),
        (b"authorization", b"Bearer x"),
        (b"x-text", b"a\xff, b"),
        (b"x-key-bin", base64.b64encode(b"\0\1\2").rstrip(b"=")),
        (b"x-two-bin", b"AA==,AQ"),
        (b"x-bad-bin", b"!"),
    ]

    assert to_metadata(headers) == (
        ("authorization", "Bearer x"),
        ("x-text", "a\ufffd, b"),
        ("x-key-bin", b"\0\1\2"),
        ("x-two-bin", b"\0"),
        ("x-two-bin", b"\1"),
    )


@given(st.binary(max_size=100))
def test_binary_metadata_comes_back_as_it_was(value: bytes) -> None:
    assert to_metadata(from_metadata([("x-key-bin", value)])) == (("x-key-bin", value),)


def test_a_status_is_written_so_that_every_client_reads_it() -> None:
    headers = status_headers(grpc.StatusCode.NOT_FOUND, "100 % ü\n", [("x-id", "1"), ("x-bin", b"\0")])

    assert headers == [
        (b"grpc-status", b"5"),
        (b"grpc-message", b"100 %25 %C3%BC%0A"),
        (b"x-id", b"1"),
        (b"x-bin", b"AA"),
    ]
    assert status_headers(grpc.StatusCode.OK, "", ()) == [(b"grpc-status", b"0")]
