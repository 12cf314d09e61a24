"""VerifyBatch: splits a serialized batch, answers each request as Verify does, and joins the responses.

An element of a batch has exactly the bytes of a serialized VerifyRequest. So a cached response to a single
request also answers the same request within a batch, and cached elements need not be parsed.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from identity_service.domain.errors import InvalidRequestError
from identity_service.grpc_api.verify import VerifyServicer, to_verify
from identityapi.v1 import identity_service_pb2 as pb

MAX_BATCH: Final = 1000
_UNKNOWN_FIELDS: Final = 100
"""Fields beside `requests` that a batch of a newer client may have."""
_MAX_RECALLED: Final = 200
"""The largest number of requests of a batch that `BatchServicer.recall` answers in one step.

This occupies an event loop for at most a millisecond.
"""
_VARINT: Final = 0
_LENGTH_DELIMITED: Final = 2
_FIXED_BYTES: Final = {1: 8, 5: 4}
"""Wire type → bytes of a value of fixed length. A group (3, 4) has no length: its fields are counted, too."""
_REQUEST_TAG: Final = pb.VerifyBatchRequest.REQUESTS_FIELD_NUMBER << 3 | _LENGTH_DELIMITED
_RESPONSE_TAG: Final = pb.VerifyBatchResponse.RESPONSES_FIELD_NUMBER << 3 | _LENGTH_DELIMITED
_LONGEST_VARINT: Final = 5
"""Bytes of the longest length that `split` reads; it leaves others to the parser."""
_MAX_VARINT: Final = 10
"""Bytes of the longest number that protobuf allows."""


class BatchServicer:
    """The servicer of VerifyBatch. It returns serialized messages."""

    def __init__(self, verify: VerifyServicer) -> None:
        self._verify = verify

    def recall(self, data: bytes) -> bytes | None:
        """Return the cached response to a batch, or None.

        Returns None unless Verify has a cached response to every request, and if the batch has more than 200
        requests.
        """
        parts = split(data, _MAX_RECALLED)
        if not parts:
            return None
        revision = self._verify.serialized_revision()
        responses = []
        for part in parts:
            known = self._verify.recall(part)
            if known is None:
                return None
            responses.append(known.rendered + revision)
        self._verify.counts.recalled.add(len(parts))
        return join(responses)

    def verify(self, request: pb.VerifyBatchRequest, data: bytes) -> bytes:
        """Verify each token of a batch; requests with a cached response are not verified again."""
        if not 1 <= len(request.requests) <= MAX_BATCH:
            raise _wrong_batch_size()
        parts = split(data, MAX_BATCH) or [single.SerializeToString() for single in request.requests]
        before = self._verify.serialized_revision()
        responses = {
            index: known.rendered + before
            for index, part in enumerate(parts)
            if (known := self._verify.recall(part)) is not None
        }
        asked = {
            index: to_verify(request.requests[index], f"requests[{index}].")
            for index in range(len(parts))
            if index not in responses
        }
        self._verify.counts.recalled.add(len(responses))
        came = self._verify.prepare(*asked.values())
        revision = self._verify.serialized_revision()
        for index, wanted in asked.items():
            responses[index] = self._verify.answer(wanted, parts[index], revision, came)
        return join(responses[index] for index in range(len(parts)))


def check_serialized_batch(data: bytes) -> None:
    """Raise InvalidRequestError if a serialized batch has far more than 1,000 requests.

    Each request takes 96 bytes once it is parsed, even if it is empty and takes two bytes here.
    """
    if has_more_fields(data, MAX_BATCH + _UNKNOWN_FIELDS):
        raise _wrong_batch_size()


def _wrong_batch_size() -> InvalidRequestError:
    return InvalidRequestError.of("requests", f"must have 1 to {MAX_BATCH} entries")


def has_more_fields(message: bytes, most: int) -> bool:
    """Return whether a serialized message of any type has more fields than `most`.

    A field that occurs several times counts as often. Looks at no more than `most` + 1 fields. If the message
    is malformed, which the parser reports, only the fields before that place count.
    """
    at, end, count = 0, len(message), 0
    try:
        while at < end:
            count += 1
            if count > most:
                return True
            tag, at = _varint(message, at)
            kind = tag & 7
            if kind == _VARINT:
                _, at = _varint(message, at)
            elif kind == _LENGTH_DELIMITED:
                length, at = _varint(message, at)
                at += length
            else:
                at += _FIXED_BYTES.get(kind, 0)
    except IndexError:
        pass
    return False


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number at this place, and the place behind it.

    Raises IndexError if the message ends in the number, or if the number has more than 10 bytes.
    """
    number = shift = 0
    while (byte := message[at]) > 0x7F:
        if shift == 7 * (_MAX_VARINT - 1):
            raise IndexError
        number |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
    return number | byte << shift, at + 1


def split(batch: bytes, limit: int) -> Sequence[bytes] | None:
    """Return the serialized VerifyRequests of a serialized VerifyBatchRequest.

    Returns None if the message holds any other field, is malformed, or has more than `limit` requests (1 MB
    has room for half a million of them). Does not check that the requests can be parsed.
    """
    parts: list[bytes] = []
    at, end = 0, len(batch)
    try:
        while at < end:
            if batch[at] != _REQUEST_TAG or len(parts) == limit:
                return None
            length, shift, at = 0, 0, at + 1
            while (byte := batch[at]) > 0x7F:
                length |= (byte & 0x7F) << shift
                shift, at = shift + 7, at + 1
                if shift >= 7 * _LONGEST_VARINT:
                    return None
            begin = at + 1
            at = begin + (length | byte << shift)
            parts.append(batch[begin:at])
    except IndexError:
        return None
    return parts if at == end else None


def join(responses: Iterable[bytes]) -> bytes:
    """Return a serialized VerifyBatchResponse of serialized VerifyResponses."""
    parts: list[bytes] = []
    for response in responses:
        parts += (_response_prefix(len(response)), response)
    return b"".join(parts)


@lru_cache(maxsize=1024)
def _response_prefix(length: int) -> bytes:
    """Return the tag and the length (a varint) that precede a response of this many bytes."""
    head = bytearray([_RESPONSE_TAG])
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head)
