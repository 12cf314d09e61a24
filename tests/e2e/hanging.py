"""A service that hangs at one of its methods, in every process that an installation starts."""

import os
from typing import Final

from tests.e2e.process import Installation

_SITECUSTOMIZE: Final = '''
"""Python imports this by itself at the start of each interpreter that finds it."""
import importlib.util
import sys
import threading


def hang(service):
    sys.stderr.write("{said}\\n")
    sys.stderr.flush()
    threading.Event().wait()


class HangingService:
    """Has a method of bootstrap.Service not return, once that module is imported."""

    def find_spec(self, name, path=None, target=None):
        if name != "identity_service.bootstrap":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_change(module):
            load(module)
            module.Service.{method} = hang

        spec.loader.exec_module = load_and_change
        return spec


sys.meta_path.insert(0, HangingService())
'''
HANGS: Final = "a service hangs"
"""What each service says in the log when it begins to hang."""


def hang_at(installation: Installation, method: str) -> None:
    """Have this method of each service that the installation starts from now on never return."""
    folder = installation.folder / "hanging"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE.format(method=method, said=HANGS))
    paths = [str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    installation.environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
