"""Parts of the composition root: open what the settings name, and wire the use cases."""
