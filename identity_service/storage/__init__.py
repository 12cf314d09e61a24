"""The stores, and the replica that follows one. Knows the domain; nothing here knows the wire."""
