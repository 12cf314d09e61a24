"""The parts that every API shares: limits on what clients hold open, and TLS certificates."""
