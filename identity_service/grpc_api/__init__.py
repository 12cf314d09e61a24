"""The gRPC interface: each method converts its request, calls a use case and converts the result.

No wire type (protobuf message) leaves this package.
"""
