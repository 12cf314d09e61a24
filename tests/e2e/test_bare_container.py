"""The service in a container without a home, where the root file system and `/dev/shm` are read-only.

Each test runs in its own mount namespace, in which both are mounted read-only.
"""

from pathlib import Path
from typing import Final

import pytest

from tests.e2e.namespaces import can_unshare
from tests.e2e.process import Installation
from tests.faults.copied_site import PASSWORD
from tests.patience import PATIENCE
from tests.ports import reserve_port

_MOUNTS: Final = """
set -e
mount --bind "$1" "$1"
if [ -d /dev/shm ]; then mount -t tmpfs -o ro none /dev/shm; fi
mount -o remount,ro,bind /
shift
unset HOME
cd /
exec "$@"
"""
_ENTER: Final = ["unshare", "--mount", "sh", "-c", _MOUNTS, "sh"]


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_unshare("--mount"), reason="nothing may be mounted here"),
]


def bare(folder: Path, **environment: str) -> Installation:
    """Return an installation with an initialised store, whose service can write to `folder` alone."""
    installation = Installation(folder, f"sqlite:///{folder}/identity.db", environment)
    installation.init()
    installation.launcher = (*_ENTER, str(folder))
    return installation


@pytest.mark.parametrize("engine", ["grpcio", "envoy"])
def test_users_sign_in_if_only_the_store_can_be_written(tmp_path: Path, engine: str) -> None:
    # Envoy alone needs a directory for its sockets: grpcio is to serve with nothing but the store.
    installation = bare(tmp_path, **({"TMPDIR": str(tmp_path)} if engine == "envoy" else {}))
    with installation.serve("--engine", engine) as service:
        service.create_user("ana", PASSWORD)
        with service.client() as client:
            assert client.issue_with_password("ana", PASSWORD, audiences=["api"]).access_token
        assert service.terminate() == 0
    assert installation.events("rpc_bug") == []
    assert installation.events("grpcio_fallback") == []


def test_envoy_reports_that_it_needs_a_writable_directory(tmp_path: Path) -> None:
    installation = bare(tmp_path)
    process = installation.start(("--engine", "envoy"), reserve_port())

    assert process.wait(PATIENCE) == 1
    assert "set TMPDIR to one in memory" in installation.log
    assert "Traceback" not in installation.log
