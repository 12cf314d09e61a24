"""Plots of what a run found, as SVG. `python -m benchmarks.plots bench.json`."""
