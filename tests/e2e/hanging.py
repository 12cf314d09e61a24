"""Makes the services that an installation starts hang in one of their methods."""

import os
from collections.abc import Mapping
from typing import Final

from tests.e2e.process import Installation

HANGS: Final = "a service hangs"
"""The text that each service prints when it begins to hang."""
_SITECUSTOMIZE: Final = '''
"""Python imports this by itself at the start of each interpreter that finds it."""
import importlib.util
import sys
import threading

TIMES = {times}
METHOD = "{method}"


def hang(service, *_):
    sys.stderr.write("{said}\\n")
    sys.stderr.flush()
    threading.Event().wait()


def change(module):
    if module.__name__ == "identity_service.process.last_resort":
        vars(module).update(TIMES)
    elif METHOD:
        setattr(module.Service, METHOD, hang)


class Changing:
    """Changes a module as soon as it is loaded, before another one can take anything from it."""

    def __init__(self, *names):
        self.names = set(names)

    def find_spec(self, name, path=None, target=None):
        if name not in self.names:
            return None
        self.names.remove(name)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_change(module):
            load(module)
            change(module)

        spec.loader.exec_module = load_and_change
        return spec


sys.meta_path.insert(0, Changing("identity_service.process.last_resort", "identity_service.bootstrap"))
'''
_FAR: Final = 60.0
"""Seconds between the forced ends of different processes: far apart, so that their order is certain even on a
busy machine."""
HANGS_INSIDE: Final = {"INSIDE": 1.0, "SERVING": 2 * _FAR, "SUPERVISING": 3 * _FAR, "BETWEEN": _FAR}
"""Seconds until processes are ended by force, for a service that hangs inside Envoy: its process is first."""
HANGS_SERVING: Final = {"SERVING": 1.0, "SUPERVISING": 2 * _FAR, "BETWEEN": _FAR}
"""Seconds until processes are ended by force, for a process that hangs while it serves, whether it is a
worker or not."""
NEVER_FORCED: Final = {"INSIDE": _FAR, "SERVING": 2 * _FAR, "SUPERVISING": 3 * _FAR, "BETWEEN": _FAR}
"""Seconds until processes are ended by force, for a service that must end by itself: so long that a forced
end is a fault of the service, however busy the machine is."""


def hang_at(installation: Installation, method: str, times: Mapping[str, float]) -> None:
    """Make one method of each service that the installation starts after this call never return.

    Args:
        method: The name of a method of `bootstrap.Service`; empty for none.
        times: Replacements for the seconds in `identity_service.process.last_resort`.
    """
    folder = installation.folder / "hanging"
    folder.mkdir()
    late = {"_STEP": _FAR, "_NATIVE": 10 * _FAR}
    text = _SITECUSTOMIZE.format(method=method, said=HANGS, times=late | dict(times))
    (folder / "sitecustomize.py").write_text(text)
    paths = [str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    installation.environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
