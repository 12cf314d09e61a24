"""structlog without rich, which it loads wherever it is installed: 3 MB of each process that serves.

It is for tracebacks in colour, and no traceback is logged here. Import this before anything that logs; where
the command line has rich already, nothing changes.
"""

import sys

if "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]  # how the import system is told of no such module
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]
