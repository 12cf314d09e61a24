"""The check of grpcio at the start of the service works with any directory for temporary files."""

import tempfile
from pathlib import Path

import pytest

from identity_service.grpc_api.core.check import why_not


def test_grpcio_works_if_the_directory_for_temporary_files_has_a_long_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))

    assert why_not() == ""
