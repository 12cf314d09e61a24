"""Serve the stock on loopback until standard input ends; the first line of the output is the address.

Only callers with the token that stock.proto declares reach a handler.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import stock_pb2
import stock_pb2_grpc

from identity_client import LocalVerifier
from identity_client.grpc import Guard, Policy, caller

ITEMS = {"apples": 12, "pears": 5}


class Stock(stock_pb2_grpc.StockServicer):
    """Counts items."""

    def Count(
        self, request: stock_pb2.CountRequest, context: grpc.ServicerContext
    ) -> stock_pb2.CountResponse:
        """Return the quantity of one item, and for which caller it was counted."""
        return stock_pb2.CountResponse(
            quantity=ITEMS.get(request.item, 0),
            subject=caller().subject,
            actors=[actor.subject for actor in caller().actors],
        )


def main() -> None:
    """Serve until standard input ends."""
    with LocalVerifier.from_env() as verifier:
        guard = Guard(verifier, Policy.from_proto(stock_pb2.DESCRIPTOR))
        server = grpc.server(ThreadPoolExecutor(8), interceptors=[guard])
        stock_pb2_grpc.add_StockServicer_to_server(Stock(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        verifier.wait_ready()
        server.start()
        print(f"127.0.0.1:{port}", flush=True)
        sys.stdin.read()
        server.stop(1).wait()


if __name__ == "__main__":
    main()
