"""The use cases, one module each. They know the domain and its ports; no transport, database or library."""
