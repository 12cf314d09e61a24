"""Splits a serialized VerifyBatchRequest into its requests, and joins responses to a VerifyBatchResponse.

An element of a batch has exactly the bytes of a serialized VerifyRequest. So a cached response to a single
request also answers the same request within a batch, and cached elements need not be parsed.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from identityapi.v1 import identity_service_pb2 as pb

_LENGTH_DELIMITED: Final = 2
_REQUEST_TAG: Final = pb.VerifyBatchRequest.REQUESTS_FIELD_NUMBER << 3 | _LENGTH_DELIMITED
_RESPONSE_TAG: Final = pb.VerifyBatchResponse.RESPONSES_FIELD_NUMBER << 3 | _LENGTH_DELIMITED
_LONGEST_VARINT: Final = 5


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
