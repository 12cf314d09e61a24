"""What operators see of a running process: log events and metrics."""
