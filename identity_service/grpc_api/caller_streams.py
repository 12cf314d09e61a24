"""The open streams whose callers were authenticated: each ends soon after its caller is revoked."""

from contextlib import suppress

from identity_service.domain.credential_errors import CallerUnauthenticatedError
from identity_service.domain.errors import UnavailableError
from identity_service.grpc_api.calls import Caller
from identity_service.grpc_api.engine import ResponseStream
from identity_service.grpc_api.errors import to_status


class CallerStreams:
    """The open streams of one process and their callers. Any thread may call any method."""

    def __init__(self) -> None:
        self._open: dict[ResponseStream, Caller] = {}

    def add(self, stream: ResponseStream, caller: Caller) -> None:
        """Look at this caller until the stream ends."""

        def ended() -> None:
            self._open.pop(stream, None)

        self._open[stream] = caller
        if not stream.on_end(ended):
            ended()

    def end_revoked(self) -> None:
        """End the streams whose callers have been revoked; leave a stream if that cannot be known now."""
        for stream, caller in tuple(self._open.items()):
            with suppress(UnavailableError):
                if caller.is_revoked():
                    error = CallerUnauthenticatedError("the caller has been revoked since the stream began")
                    stream.end(to_status(error))
