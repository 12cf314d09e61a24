"""The directory of Envoy's files: its path is short enough for the Unix socket in it."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from identity_service.domain.errors import ConfigurationError
from identity_service.envoy.configuration import admin_socket
from identity_service.envoy.process import EnvoyProcess

LONGEST_SOCKET = 107


@pytest.fixture
def short() -> Iterator[Path]:
    """Yield a directory with a short path, which pytest's directories may not have."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:  # not where pytest makes its own
        yield Path(directory)


def directory_of(short: Path, size: int) -> str:
    """Make a directory whose path has `size` bytes."""
    made = short / ("x" * (size - len(os.fsencode(short)) - 1))
    made.mkdir()
    return str(made)


def test_a_directory_as_long_as_may_be_is_taken(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", directory_of(short, 83))

    envoy = EnvoyProcess()
    envoy.end()

    assert len(os.fsencode(admin_socket(envoy.directory))) == LONGEST_SOCKET


def test_a_longer_path_is_refused_before_envoy_starts_with_the_setting_to_change(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = directory_of(short, 84)
    monkeypatch.setattr(tempfile, "tempdir", directory)

    with pytest.raises(ConfigurationError, match=r"TMPDIR .* at most 83 bytes") as raised:
        EnvoyProcess()

    assert directory in str(raised.value)
    assert not list(Path(directory).iterdir())
