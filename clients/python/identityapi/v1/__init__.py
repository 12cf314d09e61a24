"""Package identityapi.v1: messages (`*_pb2`) and gRPC stubs (`*_pb2_grpc`), generated from `protos/`."""
