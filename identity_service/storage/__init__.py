"""The stores, SQLite and Redis, and the codecs that both use. Knows the domain, but no API."""
