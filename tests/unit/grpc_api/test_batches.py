"""Batch requests are split into their parts without parsing them: the parts are those that protobuf finds."""

from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from identity_service.grpc_api import batches
from identityapi.v1 import identity_service_pb2 as pb

requests = st.builds(
    pb.VerifyRequest,
    token=st.text(max_size=300),
    audiences=st.lists(st.text(max_size=5), max_size=3),
    strong=st.booleans(),
)


@given(st.lists(requests, max_size=5))
@example([pb.VerifyRequest(token="x" * 20_000)])
def test_a_batch_is_its_requests_one_by_one(asked: list[pb.VerifyRequest]) -> None:
    data = pb.VerifyBatchRequest(requests=asked).SerializeToString()

    assert batches.split(data, 100) == [request.SerializeToString() for request in asked]


piece = st.binary(max_size=8) | requests.map(
    lambda request: pb.VerifyBatchRequest(requests=[request]).SerializeToString()
)


@given(st.lists(piece, max_size=4).map(b"".join))
@example(b"\x0a")
@example(b"\x0a\x01")
@example(b"\x0a\x80\x00")
@example(b"\x0a\x82\x00\x32\x00")
@example(b"\x0a\x80\x80\x80\x80\x80\x00")
@example(b"\x8a\x00\x00")
@example(b"\x0a\x00\x10\x01")
def test_a_batch_is_split_into_the_messages_that_protobuf_reads(data: bytes) -> None:
    parts = batches.split(data, 100)
    try:
        asked = list(pb.VerifyBatchRequest.FromString(data).requests)
    except DecodeError:
        assert parts is None or not all(map(readable, parts))
    else:
        assert parts is None or [pb.VerifyRequest.FromString(part) for part in parts] == asked


def readable(part: bytes) -> bool:
    try:
        pb.VerifyRequest.FromString(part)
    except DecodeError:
        return False
    return True


def test_no_more_are_split_than_may_be() -> None:
    three = pb.VerifyBatchRequest(requests=[pb.VerifyRequest(token="t")] * 3).SerializeToString()

    assert batches.split(three, 2) is None
    assert batches.split(three + b"\x0a\x00" * 1_000_000, 3) is None
    assert len(batches.split(three, 3) or ()) == 3


@given(st.lists(st.builds(pb.VerifyResponse, revision=st.text(max_size=300)), max_size=5))
@example([pb.VerifyResponse(revision="x" * 20_000)])
def test_joined_answers_are_a_batch_of_them(answers: list[pb.VerifyResponse]) -> None:
    joined = batches.join(answer.SerializeToString() for answer in answers)

    assert list(pb.VerifyBatchResponse.FromString(joined).responses) == answers


fields = st.tuples(st.integers(min_value=1, max_value=2**29 - 1), st.binary(max_size=200))


def serialized(number: int, value: bytes) -> bytes:
    """Return a length-delimited field with this number."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    head = bytearray()
    while number > 0x7F:
        head.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*head, number))


@given(st.lists(fields, max_size=8))
@example([(1, b"\x0a" * 200)])
def test_the_fields_of_a_message_are_counted_and_not_those_within_them(
    found: list[tuple[int, bytes]],
) -> None:
    data = b"".join(serialized(*field) for field in found)

    assert not batches.has_more_fields(data, len(found))
    if found:
        assert batches.has_more_fields(data, len(found) - 1)


@given(st.lists(piece, max_size=6).map(b"".join))
@example(b"\x0d1234\x0a\x00\x0912345678\x0a\x00")
@example(b"\x0b\x0a\x00\x0c\x0a\x00")
@example(b"\x8a\x80\x80\x80\x00\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00\x0a\x00")
def test_no_batch_that_protobuf_reads_has_more_requests_than_were_counted(data: bytes) -> None:
    try:
        asked = pb.VerifyBatchRequest.FromString(data).requests
    except DecodeError:
        return
    assert not asked or batches.has_more_fields(data, len(asked) - 1)


def test_a_number_without_an_end_is_not_read_to_the_end() -> None:
    """Reading a varint of unlimited length would take minutes."""
    assert not batches.has_more_fields(b"\xff" * 2**24, 10)
