"""The use cases of administrators: managing clients, users, sessions and trusted issuers."""
