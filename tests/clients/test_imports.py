"""The imports of the client: a library that only one part of it needs is imported with that part."""

import subprocess
import sys

HEAVY = ("httpx", "requests", "filelock", "starlette", "identity_service")


def test_importing_the_client_imports_no_library_of_an_extra() -> None:
    modules = "sys, identity_client, identity_client.grpc.aio, identity_client.http"
    code = f"import {modules}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
