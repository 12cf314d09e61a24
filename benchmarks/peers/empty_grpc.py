"""The yardstick: an empty unary RPC on a grpcio server with the service's own threads and options.

Run as `python -m benchmarks.peers.empty_grpc`; prints its port once it serves.
"""

from concurrent import futures

import grpc
from google.protobuf.empty_pb2 import Empty

from benchmarks.peers import YARDSTICK_METHOD, YARDSTICK_SERVICE
from identity_service.grpc_api.server import ServerConfig, _options


def _empty(_request: Empty, _context: grpc.ServicerContext) -> Empty:
    return Empty()


def main() -> None:
    """Serve until terminated."""
    config = ServerConfig()
    server = grpc.server(
        futures.ThreadPoolExecutor(config.memory_threads),
        options=_options(config),
        maximum_concurrent_rpcs=config.max_concurrent_calls,
        compression=grpc.Compression.NoCompression,
    )
    handler = grpc.unary_unary_rpc_method_handler(
        _empty, request_deserializer=Empty.FromString, response_serializer=Empty.SerializeToString
    )
    handlers = {YARDSTICK_METHOD: handler}
    # Both, as generated code does.
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(YARDSTICK_SERVICE, handlers),))
    server.add_registered_method_handlers(YARDSTICK_SERVICE, handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
