"""Parts of the composition root: open the store and keys that the settings name, and wire the use cases."""
