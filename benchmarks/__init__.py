"""Benchmarks: measure the service against the bars that it must meet. `python -m benchmarks --help`."""
