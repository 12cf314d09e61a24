"""The peers that the service is compared with; each is a program that prints one line when it serves.

The constants that their callers need are here, so that callers import no web framework and no server.
"""

from typing import Final

YARDSTICK: Final = "benchmarks.peers.empty_grpc"
YARDSTICK_SERVICE: Final = "benchmarks.Yardstick"
YARDSTICK_METHOD: Final = "Empty"
YARDSTICK_PATH: Final = f"/{YARDSTICK_SERVICE}/{YARDSTICK_METHOD}"

FASTAPI: Final = "benchmarks.peers.fastapi_redis"
FASTAPI_PATH: Final = "/verify"
FASTAPI_SUBJECT: Final = "u_benchmark"

NODE_TOKEN_PATH: Final = "/token"
NODE_INTROSPECTION_PATH: Final = "/token/introspection"
