"""The log and the metrics, with which operators observe a running process."""
