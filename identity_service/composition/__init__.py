"""Parts of the composition root: open the store and keys that the settings name, wire use cases and APIs."""
