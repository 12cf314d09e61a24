"""Receives and sends with grpcio's private interface, so that no thread waits for a client.

No other package uses that interface.
"""
