"""The HTTP API: OAuth 2.0 over plain HTTP, for libraries that know nothing of this service."""
