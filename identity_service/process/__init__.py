"""The operating-system side of a process that serves.

Signals, exit codes, background threads, the limits of threads and open files, listening addresses, and the
forced end of a stop that hangs.
"""
