"""The only package that uses grpcio's private interface, so that no thread waits for a client."""
