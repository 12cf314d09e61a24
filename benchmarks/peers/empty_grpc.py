"""The yardstick: an empty unary RPC on a grpcio server with the service's own threads and options.

Run as `python -m benchmarks.peers.empty_grpc`; prints its port once it serves.
"""

import sys
import threading
from typing import Any, Final

import grpc
from google.protobuf.empty_pb2 import Empty

from benchmarks.peers import YARDSTICK_METHOD, YARDSTICK_SERVICE
from identity_service.grpc_api.grpcio_engine import GrpcioConfig, GrpcioEngine
from identity_service.grpc_api.limits import Limits, LimitsConfig
from identity_service.grpc_api.threads import Threads
from identity_service.settings import Settings

_THREADS: Final = Settings.model_fields["verify_threads"].default


class _EventLog:
    """Implements the port EventLog."""

    def record(self, event: str, **fields: object) -> None:
        print(event, fields, file=sys.stderr)


def _empty(data: bytes, _context: grpc.ServicerContext) -> Empty:
    Empty.FromString(data)
    return Empty()


def main() -> None:
    """Serve until terminated."""
    event_log = _EventLog()
    limits = Limits(LimitsConfig(), event_log)
    server = GrpcioEngine(
        GrpcioConfig(listen="127.0.0.1:0"), Threads(_THREADS, "yardstick"), limits, event_log
    )
    handler: Any = grpc.unary_unary_rpc_method_handler(_empty, response_serializer=Empty.SerializeToString)
    handlers = {YARDSTICK_METHOD: handler}
    # Both, as generated code does.
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(YARDSTICK_SERVICE, handlers),))
    server.add_registered_method_handlers(YARDSTICK_SERVICE, handlers)
    print(server.start(), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
