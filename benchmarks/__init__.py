"""Benchmarks: measure the service against the bars it must meet. `python -m benchmarks --help`."""
