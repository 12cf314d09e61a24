"""What every API that clients connect to needs: limits on what they hold open, and TLS certificates."""
