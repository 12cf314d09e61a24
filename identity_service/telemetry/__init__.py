"""The log, the metrics and the traces, with which operators observe a running process."""
