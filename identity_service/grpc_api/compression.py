"""Decompresses the messages of requests, and no more of them than their methods accept.

A few kilobytes may become 16 MiB, so the length is bounded before the work is done, and the work is done in
the thread of the call.
"""

import zlib
from dataclasses import dataclass, field
from typing import Final

import grpc

GZIP: Final = zlib.MAX_WBITS | 16
"""The `wbits` with which zlib decompresses gzip (RFC 1952)."""
DEFLATE: Final = zlib.MAX_WBITS
"""The `wbits` with which zlib decompresses what gRPC calls deflate (RFC 1950)."""
_MAX_RATIO: Final = 64
"""A message may become this many times as long by decompression; zeros become 1,000 times as long."""
_ANY_RATIO_BYTES: Final = 1024 * 1024
"""A message that is no longer than this may have any ratio."""
_STARTS: Final = {b"\x1f\x8b": GZIP, b"\x78": DEFLATE}
"""The first bytes of compressed messages, with their `wbits`.

Those of deflate are for the window of 32 KiB, which gRPC's core uses (RFC 1950 section 2.2).
"""
FIRST_BYTES: Final = frozenset(start[:1] for start in _STARTS)
"""`Decompressor.opened` returns a message that begins with none of these as it is."""


class WireError(Exception):
    """The request is not valid gRPC, or exceeds a limit; `code` is the status for the client."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """A compressed message of a request, which may become a thousand times as long."""

    data: bytes = field(repr=False)
    window: int
    """The compression: GZIP, DEFLATE, or 0 if the client did not name it."""
    max_bytes: int
    """The longest message, decompressed."""

    def open(self, enough: int | None = None) -> bytes:
        """Return the message, decompressed, but no more than its first `enough` + 1 bytes.

        For 16 MiB this takes 50 ms or more. Raises WireError: RESOURCE_EXHAUSTED if the message is too long,
        INTERNAL if it cannot be decompressed.
        """
        if not self.window:
            raise WireError(grpc.StatusCode.INTERNAL, "a compressed message without grpc-encoding")
        most = min(self.max_bytes, max(_ANY_RATIO_BYTES, _MAX_RATIO * len(self.data)))
        limit = most if enough is None else min(most, enough)
        opener = zlib.decompressobj(self.window)
        try:
            opened = opener.decompress(self.data, limit + 1)
        except zlib.error:
            raise WireError(grpc.StatusCode.INTERNAL, "the message cannot be decompressed") from None
        if len(opened) > most:
            raise too_long(len(opened), most)
        if len(opened) <= limit and not opener.eof:
            raise WireError(grpc.StatusCode.INTERNAL, "the message cannot be decompressed")
        return opened


@dataclass(frozen=True, slots=True, kw_only=True)
class Decompressor:
    """A decompressor of the messages of one method, for a transport that passes them on as they were sent.

    gRPC's core does not say whether it has received a message compressed; its first bytes say it.
    """

    max_bytes: int
    """The longest message, decompressed."""
    enough: int | None
    """The longest message that the method accepts; None = `max_bytes`."""

    def opened(self, data: bytes) -> bytes:
        """Return a message as `Compressed.open` does, or the message itself if it is not compressed.

        A message that begins like a compressed one, but cannot be decompressed to the end with the right
        checksum, was not compressed. No protobuf message begins like gzip, since there is no wire type 7; one
        may begin like deflate, with a field 15 that is a number. Raises WireError: RESOURCE_EXHAUSTED if the
        message is too long.
        """
        for start, window in _STARTS.items():
            if data.startswith(start):
                try:
                    return Compressed(data=data, window=window, max_bytes=self.max_bytes).open(self.enough)
                except WireError as error:
                    if error.code is not grpc.StatusCode.INTERNAL:
                        raise
        return data


def too_long(length: int, limit: int) -> WireError:
    """Return the error for a message beyond the limit, in bytes."""
    return WireError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"the message is longer than the limit ({length} vs. {limit} bytes)",
    )
