"""The modules that a serving process loads, since every worker keeps them in memory (bar B11)."""

import subprocess
import sys

import pytest

_LOADED = """
import sys
import {module}
import identity_service.bootstrap
print(*sorted({{name.split(".")[0] for name in sys.modules}}))
"""


@pytest.mark.parametrize(
    "module", ["identity_service.serving.server_process", "identity_service.envoy.inside"]
)
def test_a_serving_process_loads_neither_the_command_line_nor_the_client(module: str) -> None:
    program = _LOADED.format(module=module)

    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert not {"identity_client", "typer", "click"} & set(run.stdout.split())
