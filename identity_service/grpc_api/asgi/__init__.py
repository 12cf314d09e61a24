"""gRPC over ASGI: serves unmodified servicers of grpcio behind an ASGI server that has trailers."""
