"""The requests of a VerifyBatch as the bytes that they came as, and its answers back to one message.

A request of a batch is a VerifyRequest, byte for byte, so what is remembered of one that came alone holds for
it, and nothing of it needs to be parsed.
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
    """Each VerifyRequest of a serialized VerifyBatchRequest; None where there is anything else in it.

    Nor are there more than `limit`: a megabyte has room for half a million of them. Whether they can be
    parsed is not looked at.
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
    """A VerifyBatchResponse of VerifyResponses that are serialized already."""
    parts: list[bytes] = []
    for response in responses:
        parts += (_head(len(response)), response)
    return b"".join(parts)


@lru_cache(maxsize=1024)
def _head(length: int) -> bytes:
    """What stands before a response of so many bytes."""
    head = bytearray([_RESPONSE_TAG])
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head)
