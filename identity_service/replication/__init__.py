"""The copy of the change log in memory: reading, following, repairing and trimming the log."""
