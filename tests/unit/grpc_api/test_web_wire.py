"""The encoding of gRPC-Web."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.grpc_api.asgi.web_wire import Base64Decoder, is_text, trailers_frame


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"application/grpc-web", False),
        (b"application/grpc-web+proto", False),
        (b"Application/gRPC-Web; charset=utf-8", False),
        (b"application/grpc-web-text", True),
        (b"application/grpc-web-text+proto", True),
        (b"application/grpc-web+json", None),
        (b"application/grpc", None),
        (b"", None),
    ],
)
def test_the_content_type_tells_whether_a_call_is_base64(content_type: bytes, expected: bool | None) -> None:
    assert is_text(content_type) is expected


def test_trailers_are_a_frame_of_header_lines() -> None:
    assert (
        trailers_frame([(b"grpc-status", b"0"), (b"a", b"b")]) == b"\x80\0\0\0\x16grpc-status: 0\r\na: b\r\n"
    )


@given(st.lists(st.binary(max_size=20)), st.integers(1, 7))
def test_segments_with_their_own_padding_are_decoded_however_they_arrive(
    segments: list[bytes], size: int
) -> None:
    text = b"".join(base64.b64encode(segment) for segment in segments)
    decoder = Base64Decoder()

    decoded = b"".join(decoder.feed(text[start : start + size]) for start in range(0, len(text), size))

    decoder.end()
    assert decoded == b"".join(segments)


@pytest.mark.parametrize("text", [b"====", b"AA=A", b"A===", b"AA\r\n", b"__8="])
def test_other_text_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"base64"):
        Base64Decoder().feed(text)


def test_text_of_more_segments_than_a_request_has_is_refused() -> None:
    decoder = Base64Decoder()
    for _ in range(512):
        decoder.feed(b"AA==")

    with pytest.raises(ValueError, match="too many"):
        decoder.feed(b"AA==")


def test_text_that_ends_within_four_characters_is_refused() -> None:
    decoder = Base64Decoder()
    decoder.feed(b"AAAAAA")

    with pytest.raises(ValueError, match="incomplete"):
        decoder.end()
