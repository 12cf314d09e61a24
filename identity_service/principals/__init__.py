"""Principals declared in a file: reads the file, finds the differences from the store, and applies them."""
