"""The modules that a process loads: a worker keeps them in memory (bar S11), and a command waits for them."""

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


@pytest.mark.parametrize(
    ("module", "others"),
    [
        ("identity_service.bootstrap", {"redis"}),
        ("identity_service.envoy.service", {"grpc", "identity_service.composition.opening"}),
        ("identity_service.cli.app", {"identity_service.cli.client", "rich.markdown"}),
        (
            "identity_service.cli.client",
            {"identity_service.settings", "identity_service.bootstrap", "pydantic"},
        ),
        ("identity_service.cli.exchange", {"identity_service.settings", "identity_service.bootstrap"}),
        ("identity_service.cli.watch", {"identity_service.settings", "identity_service.bootstrap"}),
    ],
)
def test_a_module_is_loaded_without_others_that_only_some_processes_need(
    module: str, others: set[str]
) -> None:
    program = f"import sys, {module}; print(*sys.modules)"

    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert not others & set(run.stdout.split())
