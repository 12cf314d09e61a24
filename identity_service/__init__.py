"""identity-service: a gRPC service that authenticates callers, and issues, verifies and revokes their tokens.

Read `bootstrap.py` first: it creates and connects all parts.
"""
