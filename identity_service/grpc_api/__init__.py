"""The gRPC door: converts, calls a use case, converts. Wire types stop here."""
