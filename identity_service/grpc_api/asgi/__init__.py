"""gRPC over ASGI: serves unmodified grpcio servicers behind an ASGI server that supports HTTP trailers."""
