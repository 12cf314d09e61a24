"""Serve reports on loopback until standard input ends; the first line of the output is the address.

The only argument is the address of the stock. This service asks the stock for its own caller: it exchanges
the caller's token for one that names both, so that the stock decides by what the caller may do.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import reports_pb2
import reports_pb2_grpc
import stock_pb2
import stock_pb2_grpc

from identity_client import AccessTokens, LocalVerifier, TokenExchange
from identity_client.grpc import Guard, Policy, caller, secure_channel


class Reports(reports_pb2_grpc.ReportsServicer):
    """Writes reports."""

    def __init__(self, stock: "stock_pb2_grpc.StockStub") -> None:
        """Write them with the numbers of this stock."""
        self._stock = stock

    def Write(
        self, request: reports_pb2.WriteRequest, context: grpc.ServicerContext
    ) -> reports_pb2.WriteResponse:
        """Return one line for each item."""
        try:
            lines = [self._line(item) for item in request.items]
        except grpc.RpcError as error:
            context.abort(error.code(), f"the stock refused the call: {error.details()}")
        return reports_pb2.WriteResponse(text=f"for {caller().subject}: {', '.join(lines)}")

    def ListItems(
        self, request: reports_pb2.ListItemsRequest, context: grpc.ServicerContext
    ) -> reports_pb2.ListItemsResponse:
        """Return the items. The method is public, so there may be no caller."""
        return reports_pb2.ListItemsResponse(items=["apples", "pears"])

    def _line(self, item: str) -> str:
        found = self._stock.Count(stock_pb2.CountRequest(item=item), timeout=5)
        return (
            f"{found.quantity} {item} (the stock was asked for {found.subject} by {' '.join(found.actors)})"
        )


def main() -> None:
    """Serve until standard input ends."""
    with LocalVerifier.from_env() as verifier, AccessTokens.from_env() as tokens:
        exchange = TokenExchange(tokens, audience="stock", caller=caller, verifier=verifier)
        with secure_channel(sys.argv[1], exchange) as channel:
            guard = Guard(verifier, Policy.from_proto(reports_pb2.DESCRIPTOR))
            server = grpc.server(ThreadPoolExecutor(8), interceptors=[guard])
            reports = Reports(stock_pb2_grpc.StockStub(channel))
            reports_pb2_grpc.add_ReportsServicer_to_server(reports, server)
            port = server.add_insecure_port("127.0.0.1:0")
            verifier.wait_ready()
            server.start()
            print(f"127.0.0.1:{port}", flush=True)
            sys.stdin.read()
            server.stop(1).wait()
        exchange.close()


if __name__ == "__main__":
    main()
