"""Keeps structlog from importing rich, which takes 3 MB of memory in each process that serves.

structlog imports rich if it is installed, for coloured tracebacks, which this service does not log. Import
this module before any module that logs. If rich is already imported, as by the command line, nothing changes.
"""

import sys

if "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]  # makes `import rich` raise ImportError
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]
