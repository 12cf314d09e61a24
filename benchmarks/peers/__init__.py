"""What the service is measured against; each is a program that prints one line when it serves.

Owns what their callers must know, so that these need not import a web framework or the server.
"""

from typing import Final

YARDSTICK: Final = "benchmarks.peers.empty_grpc"
YARDSTICK_SERVICE: Final = "benchmarks.Yardstick"
YARDSTICK_METHOD: Final = "Empty"
YARDSTICK_PATH: Final = f"/{YARDSTICK_SERVICE}/{YARDSTICK_METHOD}"

FASTAPI: Final = "benchmarks.peers.fastapi_redis"
FASTAPI_PATH: Final = "/verify"
FASTAPI_SUBJECT: Final = "u_benchmark"

NODE_PATH: Final = "/token/introspection"
