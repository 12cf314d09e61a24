"""The limits in Envoy's configuration that are computed, or that would take too long to reach in a test."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from identity_service.config.sources import load_settings
from identity_service.domain.errors import ConfigurationError
from identity_service.envoy.limits import EnvoyLimits, connection_manager, default_memory
from identity_service.envoy.service import envoy_config
from identity_service.grpc_api.methods import METHODS
from identity_service.settings import Settings

MIB = 2**20
AGE = timedelta(minutes=30)
LIMITS = EnvoyLimits(
    request_timeout=timedelta(seconds=10),
    open_ended=False,
    send_timeout=timedelta(seconds=5),
    max_connections=20_000,
    max_streams_per_connection=100,
    memory=512 * MIB,
)


def test_memory_is_half_of_the_containers_limit_for_all_processes_together(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(f"{512 * MIB}\n")

    assert default_memory(1, tmp_path) == 256 * MIB
    assert default_memory(4, tmp_path) == 64 * MIB


def test_a_container_of_the_first_version_of_control_groups_counts_as_well(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text(f"{512 * MIB}\n")

    assert default_memory(1, tmp_path) == 256 * MIB


@pytest.mark.parametrize("limit", ["max\n", f"{2**63 - 4096}\n"])
def test_without_a_limit_the_memory_of_the_machine_counts(tmp_path: Path, limit: str) -> None:
    machine = default_memory(1, tmp_path)
    (tmp_path / "memory.max").write_text(limit)

    assert 0 < default_memory(1, tmp_path) == machine


def test_a_memory_bound_that_no_service_could_live_with_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="envoy_memory"):
        load_settings({"envoy_memory": 127 * MIB}, environ={})


def test_envoy_ends_a_request_later_than_python_does() -> None:
    """Thus the client gets the status that Python sends, with its details."""
    assert connection_manager(LIMITS, AGE)["request_timeout"] == "12.000s"


def test_envoy_ends_no_request_while_a_method_has_requests_without_end() -> None:
    """A stream of server reflection is one request for as long as it is open."""
    assert envoy_config(Settings(reflection=True)).limits.open_ended
    assert "request_timeout" not in connection_manager(replace(LIMITS, open_ended=True), AGE)


def test_only_methods_that_exist_skip_the_check_of_paths() -> None:
    (host,) = connection_manager(LIMITS, AGE)["route_config"]["virtual_hosts"]
    skipping = {route["match"]["path"] for route in host["routes"] if "typed_per_filter_config" in route}

    assert "/identityapi.v1.IdentityService/Verify" in skipping
    assert skipping <= METHODS


def test_streams_that_are_rightly_silent_may_be_so_for_an_hour_and_others_for_longer_than_a_heartbeat() -> (
    None
):
    manager = connection_manager(LIMITS, AGE)
    (host,) = manager["route_config"]["virtual_hosts"]
    quiet = {
        route["match"]["path"]: route["route"]["idle_timeout"]
        for route in host["routes"]
        if "idle_timeout" in route["route"]
    }

    assert set(quiet) == {"/grpc.health.v1.Health/Watch", "/identityapi.v1.AdminService/TailAuditEvents"}
    assert set(quiet.values()) == {"3600.000s"}
    assert manager["stream_idle_timeout"] == "120.000s"
    with pytest.raises(ConfigurationError, match="watch_heartbeat"):
        load_settings({"watch_heartbeat": "61s"}, environ={})


def test_the_settings_decide_the_bounds() -> None:
    settings = Settings(
        reflection=False,
        request_timeout=timedelta(seconds=3),
        send_timeout=timedelta(seconds=4),
        max_connections=5,
        max_streams_per_connection=6,
        envoy_memory=700 * MIB,
    )

    assert envoy_config(settings).limits == EnvoyLimits(
        request_timeout=timedelta(seconds=3),
        open_ended=False,
        send_timeout=timedelta(seconds=4),
        max_connections=5,
        max_streams_per_connection=6,
        memory=700 * MIB,
    )
