"""The domain model: values and decisions that depend on no transport and no store. Standard library only."""
