"""The copy of the change log in memory: read, followed, repaired and trimmed."""
