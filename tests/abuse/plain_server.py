"""A grpcio server as grpcio's documentation shows it, on which the abuses must take effect.

The program takes the number of threads, and prints its port. It offers health, reflection, and some methods
of the service; their answers are empty, because the tests look only at the status of the calls.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

THREADS: Final = 4
"""Default number of threads of the server."""
_LARGEST: Final = 16 * 2**20
_METHODS: Final = {
    "identityapi.v1.IdentityService": ("Verify", "Issue", "Refresh", "Revoke"),
    "identityapi.v1.TrustService": ("GetKeys",),
}


def main() -> None:
    """Serve until the process is killed."""
    server = grpc.server(
        ThreadPoolExecutor(int(sys.argv[1])), options=[("grpc.max_receive_message_length", _LARGEST)]
    )
    for service, methods in _METHODS.items():
        handlers: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(_answer) for name in methods}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection([health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    sys.stdout.write(f"{server.add_insecure_port('127.0.0.1:0')}\n")
    sys.stdout.flush()
    server.start()
    server.wait_for_termination()


def _answer(request: bytes, context: grpc.ServicerContext) -> bytes:
    return b""


if __name__ == "__main__":
    main()
