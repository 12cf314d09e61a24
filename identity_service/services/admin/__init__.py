"""The use cases of administrators: clients, users, sessions, trusted issuers."""
