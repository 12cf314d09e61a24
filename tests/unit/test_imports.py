"""The modules that a process imports: a worker keeps them in memory (bar S11), a command waits for them."""

import subprocess
import sys

import pytest

_WORKER = """
import sys
import identity_service.serving.server_process
from identity_service.bootstrap import Service
from identity_service.settings import Settings

service = Service(
    Settings(
        store="sqlite:///:memory:",
        listen="127.0.0.1:0",
        master_key="a master key for tests, 32 characters or more",
        argon2_time_cost=1,
        argon2_memory_kib=64,
        argon2_parallelism=1,
    )
)
service.stop()
print(*sys.modules)
"""
_FEW_NEED = {
    "http_listen": {"uvicorn", "identity_service.http_api"},
    "metrics of several workers": {"identity_service.serving.worker_metrics"},
    "the keys of trusted issuers": {"urllib3"},
    "principals_file": {"yaml", "identity_service.principals"},
    "store on Redis": {"redis", "identity_service.storage.redis"},
    "the command line": {"typer", "click", "identity_client", "identity_service.cli"},
    "the engine envoy, or web_origins": {"identity_service.grpc_api.asgi.engine", "pyvoy"},
    "traces_endpoint": {"opentelemetry", "identity_service.telemetry.tracing.otel"},
    "new passwords": {"zxcvbn"},
}
"""For each feature, the modules that only this feature needs."""


def loaded(program: str) -> set[str]:
    """Return the names of the modules that a program prints."""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_a_worker_loads_only_the_modules_that_its_settings_need() -> None:
    modules = loaded(_WORKER)

    assert {use: found for use, names in _FEW_NEED.items() if (found := names & modules)} == {}


def test_a_service_in_envoy_loads_neither_the_other_engine_nor_the_command_line() -> None:
    modules = loaded("import sys, identity_service.envoy.inside; print(*sys.modules)")

    assert not {"identity_client", "typer", "click", "identity_service.grpc_api.grpcio_engine"} & modules


@pytest.mark.parametrize(
    ("module", "others"),
    [
        ("identity_service.bootstrap", {"redis", "sqlite3"}),
        ("identity_service.composition.redis_opening", {"sqlite3", "grpc"}),
        ("identity_service.adapters.password_hashing", {"structlog", "cryptography", "grpc"}),
        (
            "identity_service.envoy.service",
            {"grpc", "cryptography", "identity_service.composition.opening"},
        ),
        (
            "identity_service.cli.serve",
            {
                "grpc",
                "cryptography",
                "identity_client",
                "prometheus_client",
                "identity_service.composition.opening",
            },
        ),
        (
            "identity_service.cli.app",
            {"identity_service.cli.client", "identity_client", "pydantic", "rich", "importlib.metadata"},
        ),
        (
            "identity_service.cli.client",
            {"identity_service.settings", "identity_service.bootstrap", "pydantic", "rich"},
        ),
        ("identity_service.cli.exchange", {"identity_service.settings", "identity_service.bootstrap"}),
        ("identity_service.cli.watch", {"identity_service.settings", "identity_service.bootstrap"}),
    ],
)
def test_a_module_is_loaded_without_others_that_only_some_processes_need(
    module: str, others: set[str]
) -> None:
    assert not others & loaded(f"import sys, {module}; print(*sys.modules)")
