"""A service for each test of this folder, which fetches keys from a stand-in for a platform."""

from tests.rpc.conftest import start_world, still_at

__all__ = ["start_world", "still_at"]
