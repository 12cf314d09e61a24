"""The composition root: opens what the settings name, and wires the use cases."""
