"""What one operating-system process needs around the service.

Signals, exit codes, the limit of open files, listening addresses, and the forced end of a stop that hangs.
"""
