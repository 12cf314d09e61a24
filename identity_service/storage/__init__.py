"""The stores, SQLite and Redis, and the codecs that both use. The package knows the domain, but no API."""
