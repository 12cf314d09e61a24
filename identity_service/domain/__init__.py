"""The model: values and decisions that hold whatever the wire or the store. Standard library only."""
