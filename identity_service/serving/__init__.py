"""Runs the service as one process, or as a supervisor with several worker processes."""
