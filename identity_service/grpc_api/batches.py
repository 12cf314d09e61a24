"""Counts and splits the requests of a serialized VerifyBatchRequest, and joins responses to its response.

An element of a batch has exactly the bytes of a serialized VerifyRequest. So a cached response to a single
request also answers the same request within a batch, and cached elements need not be parsed.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from identityapi.v1 import identity_service_pb2 as pb

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
