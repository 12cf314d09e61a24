"""The method option `(identityapi.v1.access)` in the protos of another service, as its comment shows."""

import importlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor

from identityapi.v1 import access_pb2
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
OPTION: Final[Any] = access_pb2.access
"""The extension; its type differs between protoc and types-protobuf, so it is untyped here."""
EXAMPLE_INDENT = "//     "
PROTO = """
syntax = "proto3";
package shop.v1;

{example}

message GetOrderRequest {{}}
message GetOrderResponse {{}}
message GetOpeningHoursRequest {{}}
message GetOpeningHoursResponse {{}}

service Stock {{
  rpc GetUndeclared(GetOrderRequest) returns (GetOrderResponse);
  rpc GetWithDefaults(GetOrderRequest) returns (GetOrderResponse) {{
    option (identityapi.v1.access) = {{}};
  }}
}}
"""


def _example() -> str:
    """Return the example in the comment of access.proto."""
    lines = (ROOT / "protos/identityapi/v1/access.proto").read_text().splitlines()
    return "\n".join(line.removeprefix("//") for line in lines if line.startswith(EXAMPLE_INDENT))


def _run(folder: Path, module: str, *arguments: str) -> None:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> FileDescriptor:
    """Return the protos of a service, compiled with the access.proto of the client's wheel."""
    folder = tmp_path_factory.mktemp("shop")
    _run(ROOT / "clients" / "python", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "wheel")
    (folder / "shop.proto").write_text(PROTO.format(example=_example()))
    _run(folder, "grpc_tools.protoc", "-I", ".", "-I", "wheel", "--python_out=.", "shop.proto")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        descriptor: FileDescriptor = importlib.import_module("shop_pb2").DESCRIPTOR
    return descriptor


def _method(shop: FileDescriptor, service: str, name: str) -> MethodDescriptor:
    return shop.services_by_name[service].methods_by_name[name]


def _access(method: MethodDescriptor) -> access_pb2.Access:
    access = method.GetOptions().Extensions[OPTION]
    assert isinstance(access, access_pb2.Access)
    return access


def test_a_method_names_the_audience_and_scopes_of_its_callers(shop: FileDescriptor) -> None:
    access = _access(_method(shop, "Orders", "GetOrder"))

    assert access == access_pb2.Access(audience="orders", scopes=["orders.read"])


def test_a_method_is_public_if_its_option_says_so(shop: FileDescriptor) -> None:
    access = _access(_method(shop, "Orders", "GetOpeningHours"))

    assert access == access_pb2.Access(public=True)


def test_a_method_without_the_option_differs_from_one_with_its_defaults(shop: FileDescriptor) -> None:
    undeclared, with_defaults = (
        _method(shop, "Stock", name).GetOptions() for name in ("GetUndeclared", "GetWithDefaults")
    )

    assert not undeclared.HasExtension(OPTION)
    assert with_defaults.HasExtension(OPTION)


def test_the_number_of_the_option_is_the_one_that_compiled_protos_contain() -> None:
    assert OPTION.number == 50910
