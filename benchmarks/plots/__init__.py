"""Plots of the figures of a run, as SVG. `python -m benchmarks.plots bench.json`."""
