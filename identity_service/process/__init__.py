"""The operating-system side of a process that serves.

Signals, exit codes, the limit of open files, listening addresses, and the forced end of a stop that hangs.
"""
