"""The Python client of identity-service."""
