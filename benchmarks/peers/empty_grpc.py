"""The server for comparison: an empty unary RPC on grpcio with the service's own threads and options.

Run as `python -m benchmarks.peers.empty_grpc`; prints its port once it serves.
"""

import sys
import threading
from typing import Final

import grpc
from google.protobuf.empty_pb2 import Empty

from benchmarks.peers import YARDSTICK_PATH
from identity_service.grpc_api.engine import UnaryHandler
from identity_service.grpc_api.grpcio_engine import GrpcioConfig, GrpcioEngine
from identity_service.grpc_api.threads import Threads
from identity_service.settings import Settings
from identity_service.transport.limits import Limits, LimitsConfig

_THREADS: Final = Settings.model_fields["verify_threads"].default


class _EventLog:
    """An implementation of the port EventLog that discards all events."""

    def record(self, event: str, **fields: object) -> None:
        print(event, fields, file=sys.stderr)


def _empty(data: bytes, _context: grpc.ServicerContext) -> bytes:
    Empty.FromString(data)
    return Empty().SerializeToString()


def main() -> None:
    """Serve until terminated."""
    event_log = _EventLog()
    server = GrpcioEngine(GrpcioConfig(listen="127.0.0.1:0"), Limits(LimitsConfig(), event_log), event_log)
    threads = Threads(_THREADS, "yardstick")
    threads.start_first()
    server.register(YARDSTICK_PATH, UnaryHandler(threads=threads, answer=_empty))
    print(server.start(), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
